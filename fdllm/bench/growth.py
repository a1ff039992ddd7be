"""How the time of a decode grows with new tokens, rows and vocabulary, beside its bare forwards.

    python -m fdllm.bench.growth [--pairs 3] [--threads 2] [--out docs/benchmarks/growth-cpu]

The model is that of `fdllm.bench.overhead`; prompt 128, block 32, dual cache, 8 tokens a step, no
stop at an eos. One of 128 new tokens, 1 row and 32,000 ids varies at a time. Writes OUT.json and,
with matplotlib (`pip install 'fdllm[bench]'`), OUT.png.
"""

import argparse
import json
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from fdllm.bench.overhead import llada_shaped, measure
from fdllm.compiling import compile as compile_decoder

PROMPT, BLOCK, CONTEXT = 128, 32, 1024
USUAL = {"new tokens": 128, "rows": 1, "vocabulary": 32_000}
AXES = {"new tokens": (32, 64, 128, 256, 512), "rows": (1, 2, 4, 8), "vocabulary": (1_000, 8_000, 32_000, 126_464)}


def point(setting: dict[str, int], pairs: int) -> dict[str, Any]:
    """Measure one setting."""
    model = llada_shaped(setting["vocabulary"], CONTEXT)
    how: dict[str, Any] = {"max_new_tokens": setting["new tokens"], "block_length": BLOCK, "stop_at_eos": False}
    decoder = compile_decoder(model, cache="dual", policy={"name": "top-k", "k": 8}, **how)
    return {**setting, **measure(decoder, model, pairs, batch=setting["rows"], prompt=PROMPT)}


def plot(axes: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Draw decode and bare forwards over each axis, both scales logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for panel, (name, points) in zip(figure.subplots(1, len(axes)), axes.items(), strict=True):
        along = [each[name] for each in points]
        panel.loglog(along, [each["decode_seconds"] for each in points], "o-", label="decode")
        panel.loglog(along, [each["bare_seconds"] for each in points], "x--", label="its bare forwards")
        panel.set(xlabel=name, ylabel="seconds", xticks=along, xticklabels=[f"{value:,}" for value in along])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(file, dpi=120)


def main() -> None:
    """Measure every axis; print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="decodes and bare runs per point")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where to write, without an ending")
    args = parser.parse_args()
    if args.out and find_spec("matplotlib") is None:
        parser.error("--out: the plot needs matplotlib; pip install 'fdllm[bench]', or leave --out away")
    torch.set_num_threads(args.threads)
    axes: dict[str, list[dict[str, Any]]] = {}
    for name, values in AXES.items():
        for value in values:
            found = point({**USUAL, name: value}, args.pairs)
            axes.setdefault(name, []).append(found)
            print(f"{name:10} {value:8,}  {found['decode_seconds']:8.3f} s  {found['ratio']:.3f} x bare", flush=True)
    if args.out:
        report = {
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, CPU",
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "axes": axes,
        }
        args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        plot(axes, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
