"""Record a turn as a CUDA graph: one launch replays every kernel of it, with no host work between them.

The side stream is where torch wants capture to happen; each handover waits for what was queued.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import torch

from fdllm.execution.base import ExecutionError, Outcome
from fdllm.execution.static import Body, Recorder


@final
@dataclass
class Graphs(Recorder):
    """CUDA graphs of one device; they share a pool, for one at a time is replayed."""

    device: torch.device
    _pool: Any = field(default=None, init=False)

    def forget(self) -> None:
        """Let go of the pool: torch takes it back with the last graph in it."""
        self._pool = None

    def warm(self, body: Body) -> Outcome:
        """Run the function on a side stream, where what is made at first use does not get in a capture's way."""
        with torch.cuda.device(self.device):
            here, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(here)
            with torch.cuda.stream(side):
                outcome = body()
            here.wait_stream(side)
        return outcome

    def record(self, body: Body) -> tuple[Outcome, Callable[[], None]]:
        """Capture, then replay once; see the base class."""
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                torch.cuda.device(self.device),
                torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
            ):
                outcome = body()
        except RuntimeError as error:
            raise ExecutionError(
                f"execution: 'cudagraph' cannot capture this step, which reads the device or allocates in the middle "
                f"of it; use 'eager' or 'compile': {error}"
            ) from error
        self._pool = graph.pool()
        graph.replay()
        return outcome, graph.replay
