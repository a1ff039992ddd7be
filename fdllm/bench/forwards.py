"""What one step of each kind costs, part by part, and what rebuilding the backbone saves of it.

    python -m fdllm.bench.forwards [--threads 1] [--repeats 10] [--compiled]

The model is that of `fdllm.bench.overhead`, in the middle of a decode: 768 slots, a window of 32.
CPU time of the process in milliseconds, the least of the repeats: on one thread other load on the
machine disturbs it little. The tables of docs/performance.md come from here.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fdllm.bench.overhead import BLOCK, NEW, PROMPT, VOCABULARY, llada_shaped
from fdllm.caches.base import Rows
from fdllm.kernels.row_statistics.reference import RowStatistics
from fdllm.models.backbone import BackboneDenoiser
from fdllm.models.feed import feed
from fdllm.models.rebuilt import rebuilt
from fdllm.sampling import Greedy, Vocabulary

LENGTH = PROMPT + NEW
START = PROMPT + NEW // 2
WINDOW = range(START, START + BLOCK)
KINDS = {"whole": range(LENGTH), "block and suffix": range(START, LENGTH), "block": WINDOW}
VARIANTS: dict[str, dict[str, bool]] = {
    "as given": {"by_onednn": False, "picks": False},
    "last layer": {"by_onednn": False, "picks": True},
    "oneDNN": {"by_onednn": True, "picks": False},
    "both": {"by_onednn": True, "picks": True},
}


def milliseconds(run: Callable[[], Any], repeats: int) -> float:
    """CPU time of the cheapest of some calls."""
    run()
    best = float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        run()
        best = min(best, time.process_time() - begun)
    return 1e3 * best


def forwards(model: BackboneDenoiser, canvas: Tensor, repeats: int) -> None:
    """Print the decoder stack's time, kind by kind and variant by variant."""
    feeds = {name: feed(model.spec, [Rows(slots)], [WINDOW], [LENGTH]) for name, slots in KINDS.items()}
    for variant, parts in VARIANTS.items():
        model._rebuilt = rebuilt(model.module, **parts)
        store = model.new_store(1, LENGTH)

        times = {
            name: milliseconds(partial(model.hidden, canvas, each, store, model.attention), repeats)
            for name, each in feeds.items()
        }
        show(f"decoder stack, {variant}", times)


def rest(model: BackboneDenoiser, repeats: int) -> None:
    """Print what follows the decoder stack: the head, and the statistics ours and published."""
    draw = Greedy(Vocabulary(model.spec.mask_id, model.spec.vocab_size))
    fused = RowStatistics(draw, (), ("candidate", "confidence"))
    for rows in (LENGTH, BLOCK):
        hidden = torch.randn(1, rows, 512)
        logits = model.head(hidden)
        found = {
            "head by torch": milliseconds(partial(model.module.lm_head, hidden), repeats),
            "head": milliseconds(partial(model.head, hidden), repeats),
            "statistics": milliseconds(partial(fused, logits), repeats),
            "float64 softmax": milliseconds(partial(_as_published, logits), repeats),
        }
        show(f"{rows} rows of {VOCABULARY}", found)


def _as_published(logits: Tensor) -> Tensor:
    return logits.double().softmax(-1)


def layer(model: BackboneDenoiser, repeats: int, compiled: bool) -> None:
    """Print the parts of one layer over the whole canvas, and the MLP under torch.compile where asked."""
    first = model._rebuilt.module.get_decoder().layers[0]
    x = torch.randn(1, LENGTH, 512)
    q, k, v = torch.randn(3, 1, 8, LENGTH, 64).unbind(0)
    parts: dict[str, Callable[[], Any]] = {
        "MLP": lambda: first.mlp(x),
        "q, k, v and output": lambda: [first.self_attn.q_proj(x) for _ in range(4)],
        "attention": lambda: model.attention(q, k, v, None, 0.125),
        "norms": lambda: [first.input_layernorm(x) for _ in range(2)],
    }
    if compiled:
        parts["MLP, compiled"] = partial(torch.compile(first.mlp), x)
    show(f"one layer, {LENGTH} rows", {name: milliseconds(run, repeats) for name, run in parts.items()})


def show(name: str, times: dict[str, float]) -> None:
    """Print one line of milliseconds."""
    print(f"{name:28}", "   ".join(f"{part} {ms:7.2f}" for part, ms in times.items()), flush=True)


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--compiled", action="store_true", help="measure torch.compile as well")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = llada_shaped()
    canvas = torch.randint(0, VOCABULARY - 2, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    forwards(model, canvas, args.repeats)
    rest(model, args.repeats)
    layer(model, args.repeats, args.compiled)


if __name__ == "__main__":
    main()
