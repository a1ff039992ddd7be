"""The inside of the sandbox: take the limits on, run `program.py`, and say whether it ran to its end.

Started by `fdllm/sandbox.py` as a script, in an interpreter without packages: only the standard library is imported.
"""

import json
import os
import signal
import sys
from types import ModuleType

MARK = "FDLLM_SANDBOX"
"""The variable that every process of a program inherits."""
STARTED, OUT_OF_MEMORY = "s", "memory"
"""What is said before the program begins, and when it runs out of memory. At its end the token of its job is said."""


def main(verdict: int) -> None:
    """Read the job from stdin, then run the program as `__main__`; does not return.

    Args:
        verdict: the descriptor to say STARTED, then OUT_OF_MEMORY or the token, on.

    """
    job, me = json.loads(sys.stdin.buffer.read()), os.getpid()
    limit(job["memory"], job["seconds"], job["file"])
    os.set_inheritable(verdict, False)
    with open("program.py", "rb") as file:
        source = file.read()
    program = sys.modules["__main__"] = ModuleType("__main__")
    sys.argv = ["program.py"]
    os.write(verdict, STARTED.encode())
    try:
        exec(compile(source, "program.py", "exec", dont_inherit=True), program.__dict__)
    except BaseException as error:
        end(1, verdict, OUT_OF_MEMORY if isinstance(error, MemoryError) and os.getpid() == me else "", error)
    # a fork of the program can come here as well, and speaks for nobody
    end(0, verdict, job["token"] if os.getpid() == me else "")


def limit(memory: int, seconds: int, file: int) -> None:
    """Take limits on, of address space and files in bytes, of processor and clock time in seconds.

    Processes that the program starts inherit them, but for the clock.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # the clock of the parent runs out first, but for a program that waits for nothing and is started late
    resource.setrlimit(resource.RLIMIT_CPU, (seconds + 1, seconds + 2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file, file))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # where the parent was killed nobody else ends a program that sleeps
    signal.alarm(seconds + 2)


def end(code: int, verdict: int, said: str, error: BaseException | None = None) -> None:
    """Say the verdict and why, and leave at once: no thread and no exit handler of the program runs on."""
    try:
        os.write(verdict, said.encode())
        if isinstance(error, SystemExit):
            print(f"SystemExit: {error.code}: the program left before its last line", file=sys.stderr)
        elif error is not None:
            # without the line of `main`
            error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
            sys.__excepthook__(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
