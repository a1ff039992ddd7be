"""The LM head and its row statistics on a CPU: all logits at once, or a tile of the vocabulary at a time.

    python -m fdllm.bench.head [--rows 1 8 32 64] [--threads 1 2] [--out docs/benchmarks/head-cpu.json]

Each line is a shape: the head alone, head and statistics as two steps, and in tiles of so many
logits, milliseconds. The ways run in turn and the fastest round of each counts; with one thread
it is the processor's time that is measured, so that a busy machine matters less. Random weights;
candidate and confidence, at temperature 0 and 1. It refuses to print a time where candidates differ.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fdllm.kernels.head_statistics import HeadWeight, tiled
from fdllm.kernels.head_statistics.reference import HeadStatistics
from fdllm.sampling import Greedy, Sample, Vocabulary

WANTED = ("candidate", "confidence")
Ways = dict[str, Callable[[], Any]]


def fastest(ways: Ways, rounds: int) -> dict[str, float]:
    """Run every way in turn; give the least milliseconds of each."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, run in ways.items():
            begun = clock()
            run()
            best[name] = min(best[name], 1e3 * (clock() - begun))
    return best


def ways(head: HeadWeight, hidden: Tensor, temperature: float, tiles: list[int]) -> Ways:
    """Prepare the ways to the same statistics, and the head alone."""
    vocabulary = Vocabulary(len(head.weight) - 1, None)
    draw = Sample(vocabulary, temperature) if temperature else Greedy(vocabulary)
    values = [torch.arange(hidden.shape[1])[None]] if temperature else []
    reads = ("noise",) if temperature else ()
    whole = HeadStatistics(head, draw, reads, WANTED)
    found: Ways = {"head": partial(head.logits, hidden), "apart": partial(whole, hidden, *values)}
    for tile in tiles:
        parts = tiled.HeadStatistics(head, draw, reads, WANTED, tile)
        assert torch.equal(whole(hidden, *values)[0], parts(hidden, *values)[0]), "candidates differ"
        found[f"tiles of {tile}"] = partial(parts, hidden, *values)
    return found


def shapes(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Go through all shapes; make each head once."""
    noise = torch.Generator().manual_seed(0)
    for threads, dtype, vocabulary, width in product(args.threads, args.dtypes, args.vocabularies, args.widths):
        torch.set_num_threads(threads)
        kind = getattr(torch, dtype)
        head = HeadWeight((torch.randn(vocabulary, width, generator=noise) * 4 / width**0.5).to(kind))
        for rows, temperature in product(args.rows, args.temperatures):
            hidden = torch.randn(1, rows, width, generator=noise).to(kind)
            shape = {"threads": threads, "dtype": dtype, "vocabulary": vocabulary, "width": width, "rows": rows}
            with torch.inference_mode():
                took = fastest(ways(head, hidden, temperature, args.tiles), args.rounds)
            yield {**shape, "temperature": temperature, "ms": {name: round(t, 2) for name, t in took.items()}}


def main() -> None:
    """Measure every shape; print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 8, 32, 64])
    parser.add_argument("--widths", type=int, nargs="*", default=[512, 4096])
    parser.add_argument("--vocabularies", type=int, nargs="*", default=[32_000, 126_464])
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--temperatures", type=float, nargs="*", default=[0.0, 1.0])
    parser.add_argument("--tiles", type=int, nargs="*", default=[tiled.TILE])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    found = []
    for line in shapes(args):
        found.append(line)
        print(*(f"{key} {value}" for key, value in line.items()), sep=", ", flush=True)
    report = {"machine": f"{platform.machine()}, CPU", "versions": {"torch": torch.__version__}, "shapes": found}
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
