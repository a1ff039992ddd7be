"""Whole decodes of a model in LLaDA-8B's shape with random weights, by execution and attention backend."""

from typing import Any

import torch
import transformers

from fdllm.bench.gpu.timing import summary
from fdllm.compiling import compile as compile_decoder
from fdllm.models.backbone import BackboneDenoiser
from fdllm.models.spec import Spec

BLOCK = 32


def llada_8b(device: torch.device, quick: bool) -> BackboneDenoiser:
    """Make the model on the device, bfloat16, about 16 GB; `quick` makes a tiny one instead."""
    layers, width, heads, inner, size = (2, 64, 4, 96, 300) if quick else (32, 4096, 32, 12288, 126_464)
    config = transformers.LlamaConfig(
        vocab_size=size,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        use_cache=False,
    )
    torch.manual_seed(0)
    with device:
        module = transformers.LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)
    spec = Spec(mask_id=size - 1, eos_ids=(size - 2,), vocab_size=size, context=4096)
    return BackboneDenoiser(module, spec, name=f"LLaDA-shaped, width {width}, {layers} layers, random weights")


def bytes_of_a_reuse_step(model: BackboneDenoiser, slots: int) -> int:
    """Count what a reuse step cannot but read: every weight but the embedding, and K/V of every slot."""
    config, embedding = model.module.config, model.module.get_input_embeddings().weight
    itemsize: int = embedding.element_size()
    weights: int = sum(p.numel() for p in model.module.parameters()) - embedding.numel()
    head_dim = config.hidden_size // config.num_attention_heads
    stored: int = 2 * config.num_hidden_layers * slots * config.num_key_value_heads * head_dim
    return (weights + stored) * itemsize


def combinations(device: torch.device) -> list[dict[str, Any]]:
    """Every execution with every attention backend that the device has."""
    if device.type != "cuda":
        return [{"execution": name, "attention": "sdpa", "kernels": "torch"} for name in ("eager", "static")]
    return [
        {"execution": name, "attention": attention, "kernels": kernels}
        for name in ("eager", "compile", "cudagraph")
        for attention, kernels in (("sdpa", "torch"), ("sdpa", "triton"), ("triton", "triton"))
    ]


def decodes(device: torch.device, bandwidth: float, quick: bool, repeats: int) -> dict[str, Any]:
    """Decode batch 1 with the dual cache: time of a reuse and a refresh step, and tokens per second.

    A threshold nothing reaches commits one token a step, and asks every step which windows are full; the fixed
    schedule of eight tokens a step asks nothing.
    """
    model = llada_8b(device, quick)
    prompt_length, num_new = (16, 64) if quick else (1024, 256)
    prompt = torch.randint(0, model.module.config.vocab_size - 2, (1, prompt_length))
    least = bytes_of_a_reuse_step(model, prompt_length + num_new) / bandwidth * 1000
    rows = []
    for how in combinations(device):
        for policy in ({"name": "threshold"}, {"name": "top-k", "k": 8}):
            made = compile_decoder(
                model, cache="dual", policy=dict(policy), max_new_tokens=num_new, block_length=BLOCK,
                stop_at_eos=False, **how,
            )  # fmt: skip
            made.generate(prompt)
            stats = [made.generate(prompt).stats for _ in range(repeats)]
            steps = {
                phase: summary([1000 * s.seconds[phase] / s.forwards[phase] for s in stats])
                for phase in ("refresh", "reuse")
            }
            rows.append(
                {
                    **how,
                    "policy": policy,
                    "reuse_ms": steps["reuse"].to_dict(),
                    "refresh_ms": steps["refresh"].to_dict(),
                    "reuse_over_least": steps["reuse"].median / least,
                    "tokens_per_second": summary([s.tokens_per_second for s in stats]).to_dict(),
                    "nfe": stats[0].nfe,
                    "reads": stats[0].reads,
                    "replays": stats[0].replays,
                }
            )
    return {
        "model": model.name,
        "prompt": prompt_length,
        "new": num_new,
        "block": BLOCK,
        "least_ms": least,
        "rows": rows,
    }
