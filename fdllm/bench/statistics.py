"""What the row statistics of one step cost in torch, and what the alternatives would.

    python -m fdllm.bench.statistics [--rows 32] [--vocabulary 32000] [--repeats 100]

The minimum of the repeats, in milliseconds; the tables of docs/log.md come from here.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from fdllm import signals
from fdllm.kernels.row_statistics.reference import RowStatistics
from fdllm.ranking import max_by_tiles
from fdllm.sampling import Greedy, Vocabulary


def milliseconds(run: Callable[[], Any], repeats: int) -> float:
    """Time the fastest of some calls."""
    run()
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
    return 1e3 * best


def alternatives(logits: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Ways to the same numbers: totals, the likeliest id, the likeliest legal id."""
    half, mask = logits.bfloat16(), logits.shape[-1] - 3
    vocabulary = Vocabulary(mask, None)
    return {
        "logsumexp": lambda: logits.logsumexp(-1),
        "logsumexp, a few rows at a time": lambda: signals.scores_and_total(logits),
        "softmax": lambda: logits.softmax(-1),
        "log_softmax": lambda: logits.log_softmax(-1),
        "float64 softmax": lambda: logits.double().softmax(-1),
        "float32 argmax": lambda: logits.argmax(-1),
        "float32 amax": lambda: logits.amax(-1),
        "float32 max": lambda: logits.max(-1),
        "float32 max by tiles": lambda: max_by_tiles(logits),
        "bfloat16 argmax": lambda: half.argmax(-1),
        "bfloat16 max": lambda: half.max(-1).indices,
        "bfloat16 float().argmax": lambda: half.float().argmax(-1),
        "legal argmax, slices": lambda: vocabulary.best(logits),
        "legal argmax, copy": lambda: logits.index_fill(-1, torch.tensor([mask]), -float("inf")).argmax(-1),
    }


def together_and_apart(logits: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Statistics from one node, and from a node each."""
    draw = Greedy(Vocabulary(logits.shape[-1] - 3, None))
    found: dict[str, Callable[[], Any]] = {}
    for names in (("confidence",), ("confidence", "entropy"), ("confidence", "margin", "entropy")):
        fused = RowStatistics(draw, (), ("candidate", *names))

        def apart(names: tuple[str, ...] = names) -> None:
            candidate = draw(logits)
            for name in names:
                getattr(signals, name)(*((logits, candidate) if name == "confidence" else (logits,)))

        found[f"candidate, {', '.join(names)}: one node"] = partial(fused, logits)
        found[f"candidate, {', '.join(names)}: a node each"] = apart
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--repeats", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logits = 4 * torch.randn(1, args.rows, args.vocabulary, generator=torch.Generator().manual_seed(0))
    for name, run in {**alternatives(logits), **together_and_apart(logits)}.items():
        print(f"{name:52} {milliseconds(run, args.repeats):6.2f} ms", flush=True)


if __name__ == "__main__":
    main()
