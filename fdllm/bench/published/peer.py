"""One side of the comparison: a process that is asked by JSON lines, and what it is asked."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any


class PeerError(RuntimeError):
    """A side could not do what it was asked; the message says which and why."""


@dataclass(frozen=True)
class Task:
    """One decode.

    Attributes:
        prompt: token ids.
        new: response slots, a multiple of `block`.
        block: slots per block.
        cache: `none`, `prefix` or `dual`.
        policy: `{"steps": n}`, a fixed schedule of n steps in all, or `{"threshold": p}`.

    """

    prompt: tuple[int, ...]
    new: int
    block: int
    cache: str
    policy: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """What a decode gave: the response ids, the forwards it took, wall time and CPU time of the process in seconds."""

    tokens: list[int]
    nfe: int
    seconds: float
    cpu_seconds: float


class Peer:
    """A process that loads a checkpoint and decodes."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        """Start the process; what it prints to stderr is shown."""
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(environment)
        )

    def __enter__(self) -> "Peer":
        """Use as a context: the process ends with it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the process: its stdin closes, and it is waited for."""
        self.process.communicate()

    def load(self, path: str, threads: int, eos_id: int | None = None) -> dict[str, Any]:
        """Load a checkpoint; give the versions of the process's libraries."""
        versions: dict[str, Any] = self.ask("load", path=path, threads=threads, eos_id=eos_id)["versions"]
        return versions

    def decode(self, task: Task) -> Result:
        """Decode once."""
        return Result(**self.ask("decode", **asdict(task)))

    def ask(self, name: str, **fields: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            PeerError: the process ended, or answered with an error.

        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            print(json.dumps({name: fields}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"{self.name}: the process ended with code {self.process.wait()} when asked to {name}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.name}: cannot {name}: {answer['error']}")
        return answer
