"""One side of the comparison: a process that is asked by JSON lines, and what it is asked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fdllm.external import External


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


class Peer(External):
    """A process that loads a checkpoint and decodes."""

    def load(self, path: str, threads: int, eos_id: int | None = None) -> dict[str, Any]:
        """Load a checkpoint; give the versions of the process's libraries."""
        versions: dict[str, Any] = self.ask("load", path=path, threads=threads, eos_id=eos_id)["versions"]
        return versions

    def decode(self, task: Task) -> Result:
        """Decode once."""
        return Result(**self.ask("decode", **asdict(task)))
