"""Held-out exact match of the built-in model under several decoders, quality and speed side by side.

    python -m fdllm.bench.exact_match [--problems 500] [--out docs/benchmarks/tiny-exact-match.json]

Problems come from the held-out split under a seed of their own, each key once. A problem is right when
the number after `####` is its answer. The interval is Wilson's at 95 %.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch

from fdllm import compile as compile_decoder
from fdllm import load
from fdllm.decoder import Decoder
from fdllm.grids.intervals import wilson
from fdllm.tiny.problems import Problem, answer_of, held_out

ROWS: dict[str, dict[str, Any]] = {
    "1 token a step": {"policy": {"name": "top-k"}},
    "1 token a step, prefix": {"policy": {"name": "top-k"}, "cache": "prefix"},
    "1 token a step, dual": {"policy": {"name": "top-k"}, "cache": "dual"},
    "2 tokens a step": {"policy": {"name": "top-k", "k": 2}},
    "4 tokens a step": {"policy": {"name": "top-k", "k": 4}},
    "threshold 0.9": {"policy": {"name": "threshold", "threshold": 0.9}},
    "threshold 0.9, prefix": {"policy": {"name": "threshold", "threshold": 0.9}, "cache": "prefix"},
    "threshold 0.9, dual": {"policy": {"name": "threshold", "threshold": 0.9}, "cache": "dual"},
    "threshold 0.7": {"policy": {"name": "threshold", "threshold": 0.7}},
    "threshold 0.5": {"policy": {"name": "threshold", "threshold": 0.5}},
    "factor 1": {"policy": {"name": "factor"}},
    "factor 1, dual": {"policy": {"name": "factor"}, "cache": "dual"},
}


def measure(decoder: Decoder, asked: list[Problem], batch: int) -> dict[str, Any]:
    """Decode all problems in batches; count what is right, forwards per problem and time."""
    right = tokens = 0
    forwards, seconds = 0, 0.0
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        out = decoder.generate([problem.question for problem in part])
        assert out.text is not None
        right += sum(answer_of(text) == problem.answer for text, problem in zip(out.text, part, strict=True))
        forwards += sum(out.row_nfe)
        tokens += out.stats.visible_tokens
        seconds += out.stats.decode_seconds
    low, high = wilson(right, len(asked))
    return {
        "exact_match": right / len(asked),
        "interval": [round(low, 4), round(high, 4)],
        "nfe": forwards / len(asked),
        "tokens_per_forward": tokens / forwards,
        "seconds_per_problem": seconds / len(asked),
    }


def main() -> None:
    """Measure every row; print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    asked = held_out(args.problems)
    model = load("tiny", dtype="float32")
    found = {}
    for name in args.rows:
        decoder = compile_decoder(model, max_new_tokens=96, block_length=32, **ROWS[name])
        found[name] = measure(decoder, asked, args.batch)
        low, high = found[name]["interval"]
        print(
            f"{name:24} {found[name]['exact_match']:6.1%} [{low:.1%}, {high:.1%}]  "
            f"NFE {found[name]['nfe']:5.1f}  tokens per forward {found[name]['tokens_per_forward']:.2f}",
            flush=True,
        )
    report = {
        "machine": f"{platform.machine()}, CPU, {args.threads} thread",
        "versions": {"torch": torch.__version__},
        "problems": len(asked),
        "rows": found,
    }
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
