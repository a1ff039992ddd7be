"""fdllm against the published Fast-dLLM code: same weights, same tokens, in turn.

    python -m fdllm.bench.published --fast-dllm DIR [--python PYTHON] [--vocabulary 32000 126464]
        [--pairs 5] [--threads 2] [--out docs/benchmarks/published-cpu.json]

DIR is a checkout of NVlabs/Fast-dLLM (measured at 24cc59e), PYTHON an interpreter that has
transformers 4.49, torch, numpy and einops. The checkpoint is LLaDA-shaped with random weights: width 512,
8 layers; prompt 512, 256 new tokens, block 32, no stop at an eos: caches none, prefix and dual,
each under a fixed schedule of 8 tokens a step and under threshold 0.9. The last row, `eos`, is
1,024 new tokens with dual and threshold, where fdllm stops at an eos in the first quarter; the eos
is the id whose first occurrence there comes last, and the text before it is compared. The compile
wrapper of the published attention is off (TORCHDYNAMO_DISABLE) unless `--compiled` is given.
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fdllm.bench.published import checkpoint, worker
from fdllm.bench.published.compare import Comparison, UnequalTokensError, compare
from fdllm.bench.published.peer import Peer, Task

PROMPT, NEW, BLOCK, LONG = 512, 256, 32, 1024
CACHES = ("none", "prefix", "dual")
POLICIES: dict[str, dict[str, float]] = {"fixed": {"steps": NEW // 8}, "threshold": {"threshold": 0.9}}
ROWS = [*(f"{cache}, {policy}" for cache in CACHES for policy in POLICIES), "eos"]


def prompt(vocabulary: int) -> tuple[int, ...]:
    """Draw a prompt; no special id is in it."""
    draw = random.Random(1)
    return tuple(draw.randrange(checkpoint.mask_id(vocabulary)) for _ in range(PROMPT))


def end_in_first_quarter(tokens: list[int]) -> int:
    """Choose the id that first stands as late as possible in the first quarter of a response."""
    first = {token: slot for slot, token in reversed(list(enumerate(tokens)))}
    return max((token for token in first if first[token] < len(tokens) // 4), key=lambda token: first[token])


def measure(
    row: str, published: Peer, ours: Peer, folder: str, args: argparse.Namespace, vocabulary: int
) -> Comparison:
    """Measure one row on loaded peers."""
    asked = prompt(vocabulary)
    if row != "eos":
        cache, policy = row.split(", ")
        return compare(published, ours, Task(asked, NEW, BLOCK, cache, POLICIES[policy]), args.pairs)
    task = Task(asked, LONG, BLOCK, "dual", POLICIES["threshold"])
    eos_id = end_in_first_quarter(ours.decode(task).tokens)
    ours.load(folder, args.threads, eos_id)
    return compare(published, ours, task, args.pairs, eos_id)


@contextmanager
def peers(args: argparse.Namespace) -> Iterator[tuple[Peer, Peer]]:
    """Start both sides; the published code runs in its own interpreter."""
    plain = {} if args.compiled else {"TORCHDYNAMO_DISABLE": "1"}
    theirs = [args.python, worker.__file__, str(args.fast_dllm)]
    mine = [sys.executable, "-m", "fdllm.bench.published.ours"]
    with Peer("published", theirs, {**os.environ, **plain}) as published, Peer("fdllm", mine, os.environ) as ours:
        yield published, ours


def of_vocabulary(args: argparse.Namespace, vocabulary: int) -> dict[str, Any]:
    """Measure every row at one vocabulary; print each as it comes."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, peers(args) as (published, ours):
        checkpoint.write(Path(folder), vocabulary, args.seed)
        versions = {peer.name: peer.load(folder, args.threads) for peer in (published, ours)}
        for row in args.rows:
            try:
                found = measure(row, published, ours, folder, args, vocabulary)
            except UnequalTokensError as error:
                rows[row] = {"unequal": str(error)}
                print(f"{vocabulary:7} {row:18} {error}", flush=True)
                continue
            rows[row] = found.to_dict()
            print(
                f"{vocabulary:7} {row:18} {found.speed_up:5.2f} x (CPU time {found.cpu_speed_up:5.2f} x)  published "
                f"{found.published_seconds:7.2f} s, {found.published_nfe} forwards; fdllm {found.our_seconds:7.2f} s, "
                f"{found.our_nfe}; load {found.load_average:.1f}",
                flush=True,
            )
    return {"versions": versions, "rows": rows}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast-dllm", type=Path, required=True, help="checkout of NVlabs/Fast-dLLM")
    parser.add_argument("--python", default=sys.executable, help="interpreter with transformers 4.49")
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[32_000])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--pairs", type=int, default=5, help="timed decodes of each side per row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--compiled", action="store_true", help="leave the published compile wrapper on")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    worker.code_folder(args.fast_dllm)
    return args


def main() -> int:
    """Measure, print, keep; 1 where tokens differed."""
    args = arguments()
    report = {
        "machine": f"{platform.machine()}, {args.threads} threads, CPU",
        "model": f"LLaDA-shaped, d_model 512, 8 layers, prompt {PROMPT}, block {BLOCK}, float32, seed {args.seed}",
        "published": f"Fast-dLLM, {'as it stands' if args.compiled else 'compile wrapper off'}",
        "vocabularies": {str(size): of_vocabulary(args, size) for size in args.vocabulary},
    }
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    return int(any("unequal" in row for each in report["vocabularies"].values() for row in each["rows"].values()))  # type: ignore[attr-defined]


if __name__ == "__main__":
    raise SystemExit(main())
