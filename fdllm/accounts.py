"""Counts and times of a run, as it goes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from fdllm.generation import Stats


@dataclass
class Accounts:
    """What a run has spent so far.

    Attributes:
        device: where it runs; times are taken with the device done.
        row_nfe: forwards each row of the call took part in.
        forwards, seconds: forwards and time by phase.
        decode_seconds: time of all steps, without what happens between them.
        rows, head_rows: slots computed, and rows of the LM head.

    """

    device: torch.device
    row_nfe: list[int]
    forwards: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    decode_seconds: float = 0.0
    rows: int = 0
    head_rows: int = 0

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

    def spend(self, phase: str, since: float) -> None:
        """Enter the time of a step."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + self.now() - since

    def now(self) -> float:
        """Wall time in seconds, with the device done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def stats(self, visible_tokens: int) -> Stats:
        """Give them for a result."""
        return Stats(self.forwards, self.seconds, self.decode_seconds, self.rows, self.head_rows, visible_tokens)
