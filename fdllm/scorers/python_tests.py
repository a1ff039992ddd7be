"""Run the code of a text with the tests of its reference, as HumanEval and MBPP do.

Source: Chen et al. 2021, HumanEval, arXiv:2107.03374; Austin et al. 2021, MBPP, arXiv:2108.07732. There as here a text
is right where the program made of it runs to its end; who writes the references says what that program is.
"""

import re
from typing import final

from pydantic import Field

from fdllm.sandbox import run_python
from fdllm.scorers.base import Scorer

PLACE = re.compile(r"^# completion[ \t]*$", re.MULTILINE)
LABELED = re.compile(r"^[ \t]*```[ \t]*(?:python3?|py)[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^[ \t]*```[^\n]*\n?", re.MULTILINE)


def code_of(text: str) -> str:
    """Take the code out of a text: of the first fence that says Python, else of the first fence, else all of it.

    One fence alone ends code that began in the prompt, unless the text begins with it and breaks off.
    """
    labeled = LABELED.search(text)
    if labeled:
        return labeled[1]
    before, *fenced = FENCE.split(text)
    return fenced[0] if len(fenced) > 1 or (fenced and not before.strip()) else before


@final
class PythonTests(Scorer):
    """Right where the code of the text and the reference, a program of tests, run to their end in the sandbox.

    The code stands in the first line of the reference that is `# completion`, else in front of it. So the prompt's own
    code, which a completion goes on from, is written above that line. An assertion that fails, any other error, a
    program that leaves early, and one that needs more time or memory are wrong. `fdllm/sandbox.py` says what the
    sandbox is good for: accidents, not hostile code.
    """

    seconds: float = Field(10.0, gt=0, le=3600, description="time a program may take, in seconds")
    memory_mb: int = Field(1024, ge=64, le=2**20, description="memory a program may take, in MiB of address space")

    def check(self, reference: str) -> None:
        """Refuse a reference without a test."""
        if not PLACE.sub("", reference).strip():
            raise ValueError(f"python-tests wants a program that tests, got {reference!r}")

    def right(self, text: str, reference: str) -> bool:
        """Run the program; see `program`."""
        return run_python(program(text, reference), seconds=self.seconds, memory_mb=self.memory_mb).state == "passed"


def program(text: str, reference: str) -> str:
    """Put the code of a text in its place in the reference."""
    place = PLACE.search(reference)
    before, after = (reference[: place.start()], reference[place.end() :]) if place else ("", "\n" + reference)
    return f"{before}{code_of(text)}\n{after}"
