"""The command line: `fdllm generate`, `chat`, `bench`, `demo`, `convert`, `explain`, `list`, `doctor`.

Exit codes: 0 done; 2 the input is wrong, said in one message; 1 a fault of fdllm, with its traceback.
"""

import sys
import traceback

import typer

from fdllm.cli import bench, chat, convert, demo, doctor, explain, generate, listing

app = typer.Typer(
    name="fdllm",
    help="Decode diffusion language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate")(generate.generate)
app.command("chat")(chat.chat)
app.command("bench")(bench.bench)
app.command("demo")(demo.demo)
app.command("convert")(convert.convert)
app.command("explain")(explain.explain)
app.command("list")(listing.list_)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command of this process and exit with the code of its outcome."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        app(arguments, prog_name="fdllm")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except Exception as error:
        if is_user_error(error):
            print(f"fdllm: {error}", file=sys.stderr)
            return 2
        traceback.print_exc()
        print("fdllm: this is a fault of fdllm or of a plugin named above, not of your input", file=sys.stderr)
        return 1
    return 0


def is_user_error(error: Exception) -> bool:
    """Tell what the user can repair from what we must: fdllm's own errors, and a ValueError as such."""
    # not its subclasses from elsewhere: a JSONDecodeError that gets here is a check of ours that is missing
    return type(error) is ValueError or any(kind.__module__.startswith("fdllm.") for kind in type(error).__mro__)


if __name__ == "__main__":
    main()
