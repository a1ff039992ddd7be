"""Learning which rows are full or done while the device goes on working.

The flags are computed in the step itself. On a CUDA device they are copied to pinned memory behind
it, and the host waits for that copy alone, as late as it can.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Poll:
    """One question at a time; `reads` counts the answers that were waited for."""

    reads: int = 0
    _flags: Tensor | None = field(default=None, init=False)
    _copied: torch.cuda.Event | None = field(default=None, init=False)

    def ask(self, status: Tensor) -> None:
        """Start to copy the flags of a step, bool[2 B]."""
        if status.device.type != "cuda":
            self._flags = status
            return
        self._flags = torch.empty(status.shape, dtype=status.dtype, pin_memory=True)
        self._flags.copy_(status, non_blocking=True)
        self._copied = torch.cuda.Event()
        self._copied.record(torch.cuda.current_stream(status.device))

    def answer(self) -> tuple[list[bool], list[bool]]:
        """Wait for them: rows whose window is full, and rows that are done."""
        assert self._flags is not None, "answer() without ask()"
        if self._copied is not None:
            self._copied.synchronize()
        self.reads += 1
        full, done = self._flags.tolist()
        self._flags = None
        return full, done
