"""A decoder that is not fdllm's: a process asked by lines of JSON.

A request is one line on its stdin, `{"load": {...}}` or `{"decode": {...}}`; the answer is one line on
its stdout, an object, or `{"error": "..."}`. What it has to say to people goes to its stderr.
"""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

PATIENCE = 10.0
"""How long a process may go on after the end of its stdin, in seconds."""


class ExternalError(RuntimeError):
    """An external decoder could not do what it was asked; the message says which one and why."""


class External:
    """A process that answers requests, one at a time."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            name: what messages call it.
            command: the program and its arguments.
            environment: all of its variables; this process's own unless given.

        Raises:
            ExternalError: there is no such program.

        """
        self.name = name
        try:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                # a group of its own, so that what a wrapper started ends with it
                start_new_session=True,
                env=None if environment is None else dict(environment),
            )
        except OSError as error:
            raise ExternalError(f"{name}: {command[0]!r} cannot be started: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the process: by the end of its stdin, or, where something went wrong or it goes on, at once."""
        with suppress(subprocess.TimeoutExpired):
            if kind is None:
                self.process.communicate(timeout=PATIENCE)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            ExternalError: the process ended, or answered with an error or with something else than JSON.

        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            print(json.dumps({request: fields}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ExternalError(f"{self.name}: {self._ended()} when asked to {request}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ExternalError(
                f"{self.name}: wanted one JSON object when asked to {request}, got {line.strip()[:200]!r}"
            )
        if "error" in answer:
            raise ExternalError(f"{self.name}: cannot {request}: {answer['error']}")
        return answer

    def _ended(self) -> str:
        try:
            return f"the process ended with code {self.process.wait(PATIENCE)}"
        except subprocess.TimeoutExpired:
            return "the process closed its stdout"
