"""Run a Python program that nobody has read, with limits, and say how it ended.

The program runs in a process of its own, in a temporary directory of its own that is removed afterwards, with limits of
time, memory and file size, without environment, input, or packages beyond the standard library. It counts as passed
when it runs to its end: one that leaves before its last line, by `sys.exit(0)` or `os._exit(0)`, has failed.

This limits accidents: endless loops, memory that grows, files and processes left behind. It is no wall against hostile
code, which runs as the same user: it can read and delete what that user can, use the network, fill a disk with many
files, find the token that says "passed" in its own interpreter, and leave processes that deny where they came from.
Namespaces, which would hide files and network, are left out, for containers often refuse them; so is a limit on the
number of processes, which counts all of the user's. Run what you do not trust in a container or a virtual machine.
"""

import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from io import FileIO
from math import ceil
from pathlib import Path
from secrets import token_hex
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from tempfile import TemporaryDirectory
from threading import Thread
from time import sleep
from typing import IO, Literal

from fdllm import sandbox_child
from fdllm.sandbox_child import MARK, OUT_OF_MEMORY, STARTED

State = Literal["passed", "failed", "timed out", "out of memory"]

START_SECONDS = 60.0
"""How long an interpreter may take to start; the program's own time begins afterwards."""
FILE_MB = 16
"""Largest file a program may write, in MiB."""
TAIL = 4000
"""How much of stderr is kept, the end of it, in bytes."""


class SandboxError(RuntimeError):
    """A program could not be run, through no fault of its own; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended, and the last lines it wrote to stderr."""

    state: State
    stderr: str


def run_python(source: str, *, seconds: float, memory_mb: int) -> Outcome:
    """Run a program to its end, or to its limits.

    Args:
        source: the program, `__main__` of the interpreter that runs fdllm; of packages it has the standard library.
        seconds: time it may take, by the clock; each of its processes may use a processor for as long.
        memory_mb: address space each of its processes may take, in MiB; the interpreter itself takes some 15.

    Returns:
        How it ended. Nothing it started goes on, and nothing it wrote to its directory is left.

    Raises:
        SandboxError: this platform has no such limits, the interpreter did not start under them, or a process
            cannot be killed.

    """
    if find_spec("resource") is None:
        raise SandboxError(
            f"sandbox: wanted a platform that limits processes (Python's module resource), got {sys.platform}; "
            "run this on Linux, or in a Linux container"
        )
    with TemporaryDirectory(prefix="fdllm-") as made:
        # as the system calls it, without links
        folder = os.path.realpath(made)
        Path(folder, "program.py").write_text(source, encoding="utf-8", errors="surrogatepass")
        return _run(folder, seconds, memory_mb)


def _run(folder: str, seconds: float, memory_mb: int) -> Outcome:
    token = token_hex(16)
    job = {"token": token, "memory": memory_mb * 2**20, "seconds": ceil(seconds), "file": FILE_MB * 2**20}
    mark, tail = token_hex(16), bytearray()
    process, verdict = _start(folder, mark)
    assert process.stdin is not None and process.stderr is not None
    listener = Thread(target=_keep_tail, args=(process.stderr, tail), daemon=True)
    listener.start()
    with verdict:
        try:
            _tell(process.stdin, job)
            started = _said_started(verdict)
            in_time = started and _ends(process, seconds)
        finally:
            _kill(process, folder, mark)
        said = (verdict.read(1000) or b"").decode(errors="replace")
    listener.join(1)
    stderr = tail.decode(errors="replace").strip()
    if not started:
        said = stderr or "nothing"
        raise SandboxError(f"sandbox: {sys.executable} did not start within {memory_mb} MiB; it said: {said}")
    return Outcome(_state(said == token, said, in_time, process.returncode), stderr)


def _state(whole: bool, said: str, in_time: bool, code: int) -> State:
    if not in_time or code in (-signal.SIGXCPU, -signal.SIGALRM):
        return "timed out"
    if said == OUT_OF_MEMORY:
        return "out of memory"
    return "passed" if whole and code == 0 else "failed"


def _start(folder: str, mark: str) -> tuple[Popen[bytes], FileIO]:
    """Start the interpreter; it waits for its job. The pipe is for what it says of itself."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    environment = {MARK: mark, "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0"}
    # -S: no site-packages, -P: no script's folder on the path, -B: no bytecode written
    command = [sys.executable, "-P", "-S", "-B", "-X", "utf8", str(sandbox_child.__file__), str(write)]
    try:
        process = Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=PIPE,
            pass_fds=(write,),
            start_new_session=True,
        )
    finally:
        os.close(write)
    return process, FileIO(read)


def _tell(stdin: IO[bytes], job: Mapping[str, object]) -> None:
    """Hand over the job; afterwards the program's stdin is at its end."""
    # one that has ended already does not say that it started
    with suppress(BrokenPipeError), stdin:
        stdin.write(json.dumps(job).encode())


def _said_started(verdict: FileIO) -> bool:
    ready, _, _ = select.select([verdict], [], [], START_SECONDS)
    return bool(ready) and verdict.read(len(STARTED)) == STARTED.encode()


def _ends(process: Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except TimeoutExpired:
        return False
    return True


def _keep_tail(stderr: IO[bytes], tail: bytearray) -> None:
    """Read all that is written, so that writing never waits, and keep the end of it."""
    with stderr:
        while chunk := os.read(stderr.fileno(), 65536):
            tail += chunk
            del tail[:-TAIL]


def _kill(process: Popen[bytes], folder: str, mark: str) -> None:
    """Kill the process group, then, where there is /proc, those that left it but kept the folder or the environment."""
    # none left, or on macOS none but zombies
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(500):
        found = [each.name for each in Path("/proc").glob("[0-9]*") if _belongs(each, folder, mark)]
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        # a killed process takes a moment to end, and can have started another one before
        sleep(0.01)
    raise SandboxError(f"sandbox: processes {', '.join(found)} of a program cannot be killed; end them by hand")


def _belongs(entry: Path, folder: str, mark: str) -> bool:
    try:
        # while a process becomes another program it has no environment to be seen, but a folder
        where, environment = os.readlink(entry / "cwd"), (entry / "environ").read_bytes()
        return where == folder or f"{MARK}={mark}".encode() in environment
    except OSError:
        # ended by now, or another user's
        return False
