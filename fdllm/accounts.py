"""Counts and times of a run, as it goes; taking them does not make the host wait for the device."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from fdllm.generation import Stats


@dataclass
class Accounts:
    """What a run has spent so far.

    Attributes:
        device: where it runs.
        row_nfe: forwards each row of the call took part in.
        forwards: forwards by phase.
        decode_seconds: time of all steps, without what happens between them; the device is waited for at its
            begin and its end.
        rows, head_rows: slots computed, and rows of the LM head.
        reads: times the host waited to learn which rows were full or done.
        replays: forwards that were replayed from a record.

    """

    device: torch.device
    row_nfe: list[int]
    forwards: dict[str, int] = field(default_factory=dict)
    decode_seconds: float = 0.0
    rows: int = 0
    head_rows: int = 0
    reads: int = 0
    replays: int = 0
    _spans: list[tuple[str, Any, Any]] = field(default_factory=list)

    @property
    def nfe(self) -> int:
        """Forwards so far."""
        return sum(self.forwards.values())

    def count(self, phase: str, rows: int, head_rows: int, running: Sequence[int]) -> None:
        """Enter one forward: slots it computes, rows of the head, and the rows of the call it is for."""
        self.forwards[phase] = self.forwards.get(phase, 0) + 1
        self.rows += rows
        self.head_rows += head_rows
        for row in running:
            self.row_nfe[row] += 1

    def mark(self) -> Any:
        """Mark a moment of the device: an event on CUDA, read when the run is over; else seconds."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def spend(self, phase: str, since: Any) -> None:
        """Enter the time of a step, from a mark until now."""
        self._spans.append((phase, since, self.mark()))

    def settled(self) -> float:
        """Wall time in seconds, with the device done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self) -> dict[str, float]:
        """Sum the times of the steps by phase; waits for the device."""
        self.settled()
        found: dict[str, float] = {}
        for phase, since, until in self._spans:
            spent = until - since if isinstance(since, float) else since.elapsed_time(until) / 1000
            found[phase] = found.get(phase, 0.0) + spent
        return found

    def stats(self, visible_tokens: int) -> Stats:
        """Give them for a result."""
        return Stats(
            forwards=self.forwards,
            seconds=self.seconds(),
            decode_seconds=self.decode_seconds,
            rows=self.rows,
            head_rows=self.head_rows,
            visible_tokens=visible_tokens,
            reads=self.reads,
            replays=self.replays,
        )
