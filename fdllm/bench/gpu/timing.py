"""Times of short calls: medians and spreads, with nothing left in the device's cache from the call before."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

FLUSH_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call: median, first and third quartile, of so many calls."""

    median: float
    low: float
    high: float
    calls: int

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        return asdict(self)


def summary(milliseconds: list[float]) -> Timing:
    """Sum up at least two times."""
    low, median, high = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return Timing(median, low, high, len(milliseconds))


def timed(run: Callable[[], Any], device: torch.device, calls: int) -> Timing:
    """Time a call after three to warm up: by events on a CUDA device, by the clock elsewhere."""
    for _ in range(3):
        run()
    if device.type != "cuda":
        return summary([_by_clock(run) for _ in range(calls)])
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)
    spans = []
    for _ in range(calls):
        flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        spans.append((begin, end))
    torch.cuda.synchronize(device)
    return summary([begin.elapsed_time(end) for begin, end in spans])


def _by_clock(run: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - begun)
