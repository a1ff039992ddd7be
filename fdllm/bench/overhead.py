"""What decoding costs beyond the model: a decode against its bare backbone forwards and head rows.

    python -m fdllm.bench.overhead [--pairs 5] [--out docs/benchmarks/overhead-cpu.json]

The model is LLaDA-shaped with random weights: width 512, 8 layers, vocabulary 32,000; prompt 512,
256 new tokens, block 32, 2 threads. A decode is run, then the same forwards again with everything
prepared and nothing around them: the decoder stack on the same slots, the head on the same rows.
Both sides run in turn; the figure is the median of the ratios of neighbours.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import transformers

from fdllm.caches.base import Rows
from fdllm.compiling import compile as compile_decoder
from fdllm.decoder import Decoder
from fdllm.generation import Generation
from fdllm.models.backbone import BackboneDenoiser
from fdllm.models.feed import feed
from fdllm.models.spec import Spec

PROMPT, NEW, BLOCK, VOCABULARY = 512, 256, 32, 32_000


def llada_shaped(vocabulary: int = VOCABULARY, context: int = 1024) -> BackboneDenoiser:
    """Make the model, random weights."""
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        max_position_embeddings=context,
        use_cache=False,
    )
    torch.manual_seed(0)
    module = transformers.LlamaForCausalLM(config)
    spec = Spec(mask_id=vocabulary - 1, eos_ids=(vocabulary - 2,), vocab_size=vocabulary, context=context)
    return BackboneDenoiser(module, spec, name=f"LLaDA-shaped, d_model 512, 8 layers, vocabulary {vocabulary}")


def bare(model: BackboneDenoiser, out: Generation, prompt: int) -> Callable[[], None]:
    """Prepare the forwards of a run, as its trace tells, and return a function that does only them.

    Args:
        model: what decoded.
        out: of prompts of one length, traced.
        prompt: that length, in slots.

    """
    assert out.trace is not None
    batch, length = len(out.tokens), prompt + out.tokens.shape[1]
    calls = []
    for _, together in groupby(out.trace, lambda move: move.forward):
        moves = list(together)
        windows = [range(prompt + move.window.start, prompt + move.window.stop) for move in moves]
        plans: list[Rows | None] = [Rows(move.computed) for move in moves]
        calls.append((feed(model.spec, plans, windows, [length] * len(moves)), moves[0].phase != "full"))
    canvas = torch.randint(0, length, (batch, length))

    @torch.inference_mode()
    def run() -> None:
        store = model.new_store(batch, length)
        for each, stores in calls:
            model.head(model.hidden(canvas, each, store if stores else None, model.attention))

    return run


def seconds(run: Callable[[], Any]) -> float:
    """Time one call."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def measure(
    decoder: Decoder, model: BackboneDenoiser, pairs: int, *, batch: int = 1, prompt: int = PROMPT
) -> dict[str, Any]:
    """Run a decode and its bare forwards in turn; give the times and the median ratio."""
    most = (model.spec.vocab_size or VOCABULARY) - 2
    ids = torch.randint(0, most, (batch, prompt), generator=torch.Generator().manual_seed(1))
    traced = decoder.generate(ids, trace=True)
    forwards = bare(model, traced, prompt)
    forwards()
    times = [(seconds(lambda: decoder.generate(ids)), seconds(forwards)) for _ in range(pairs)]
    decode, alone = zip(*times, strict=True)
    return {
        "decode_seconds": statistics.median(decode),
        "bare_seconds": statistics.median(alone),
        "ratio": statistics.median(d / b for d, b in times),
        "ratios": [round(d / b, 4) for d, b in times],
        "nfe": traced.nfe,
    }


def main() -> None:
    """Measure every cache under a fixed schedule and a threshold; print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="decodes and bare runs per row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = llada_shaped()
    begun = time.perf_counter()
    compile_decoder(model, cache="dual", max_new_tokens=NEW, block_length=BLOCK)
    building = time.perf_counter() - begun
    rows = {}
    policies: dict[str, dict[str, Any]] = {
        "8 tokens a step": {"name": "top-k", "k": 8},
        "threshold 0.9": {"name": "threshold"},  # random weights: one token a step
    }
    for cache, policy in (("none", "8 tokens a step"), ("prefix", "8 tokens a step"), ("dual", "threshold 0.9")):
        how: dict[str, Any] = {"max_new_tokens": NEW, "block_length": BLOCK, "stop_at_eos": False}
        decoder = compile_decoder(model, cache=cache, policy=policies[policy], **how)
        name = f"{cache}, {policy}"
        rows[name] = measure(decoder, model, args.pairs)
        print(f"{name:24} {rows[name]['ratio']:.3f} x bare ({rows[name]['nfe']} forwards)", flush=True)
    report = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, CPU",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "model": model.name,
        "building_seconds": building,
        "rows": rows,
    }
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
