"""Stable-DiffCoder on the stock Llama backbone: causal between blocks of 4.

Source: Stable-DiffCoder 2026, arXiv:2601.15892; checkpoints ByteDance-Seed/Stable-DiffCoder-8B-Base,
-Instruct.
The published class is a Llama with its own decoding loop; its config says model_type llama.
"""

from typing import Any

from fdllm.models.decoders import llama, sizes
from fdllm.models.family import Config, Family, given


def spec(config: Config) -> dict[str, Any]:
    """Predict each slot at its own row, in blocks of 4."""
    return {
        **sizes(config),
        "mask_id": given(config, "mask_token_id", 5),
        "pattern": "block-causal",
        "block_length": 4,
    }


STABLE_DIFFCODER = Family(
    about="Stable-DiffCoder",
    backbone="LlamaForCausalLM",
    settings=llama,
    spec=spec,
    defaults={"policy": {"name": "top-k", "k": 1}},
)
