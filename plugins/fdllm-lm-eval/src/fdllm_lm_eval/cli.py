"""`fdllm-lm-eval`: the command line of lm-evaluation-harness, with the model `fdllm` in it.

Exit codes: 0 done; 2 the input is wrong, said in one message; 1 a fault, with its traceback.
"""

import sys

from lm_eval.__main__ import cli_evaluate

import fdllm_lm_eval  # noqa: F401 - registers the model
from fdllm.cli.main import is_user_error


def main() -> None:
    """Run the harness over the arguments of this process."""
    try:
        cli_evaluate()
    except Exception as error:
        if not is_user_error(error):
            raise
        print(f"fdllm-lm-eval: {error}", file=sys.stderr)
        sys.exit(2)
