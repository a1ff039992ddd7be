"""Tiny-A2D: autoregressive checkpoints turned into diffusion LMs, on the stock backbone they came from.

Source: github.com/ZHZisZZ/dllm, pipelines/a2d; checkpoints dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1,
-bd3lm-v0.1, Qwen2.5-Coder-0.5B-Instruct-diffusion-mdlm-v0.1. The config does not say which of the
two it was trained as; the published names do.
"""

from dataclasses import replace
from typing import Any

from fdllm.models.decoders import llama, qwen2, qwen3, sizes
from fdllm.models.family import Config, Family

_PATTERNS = {"mdlm": "full", "bd3lm": "block-causal"}


def spec(config: Config) -> dict[str, Any]:
    """Predict each slot at its own row; full attention for mdlm, blocks of 32 for bd3lm."""
    name = str(config.get("_name_or_path", "")).lower()
    found = {pattern for kind, pattern in _PATTERNS.items() if kind in name}
    return {
        **sizes(config),
        "mask_id": config.get("mask_token_id"),
        "pattern": found.pop() if len(found) == 1 else None,
        "block_length": 32,
    }


A2D_QWEN3 = Family(
    about="Tiny-A2D (Qwen3)",
    backbone="Qwen3ForCausalLM",
    settings=qwen3,
    spec=spec,
    ends=("<|im_end|>",),
    defaults={"policy": {"name": "top-k", "k": 1}},
)

A2D_QWEN2 = replace(A2D_QWEN3, about="Tiny-A2D (Qwen2)", backbone="Qwen2ForCausalLM", settings=qwen2)

A2D_LLAMA = replace(A2D_QWEN3, about="Tiny-A2D (Llama)", backbone="LlamaForCausalLM", settings=llama)
