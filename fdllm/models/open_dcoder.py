"""Open-dCoder: a Qwen2 checkpoint by name and layout, trained to denoise; its logits are shifted by one.

Source: github.com/pengzhangzhi/Open-dLLM; checkpoint fredzzp/open-dcoder-0.5B. The config does not
tell it from a causal Qwen2: one whose tokenizer has no mask token is refused unless `mask_id` is given.
"""

from typing import Any

from fdllm.models.decoders import qwen2, sizes
from fdllm.models.family import Config, Family


def spec(config: Config) -> dict[str, Any]:
    """Open-dCoder predicts slot i at row i - 1, under full attention; its mask is the tokenizer's."""
    return {**sizes(config), "mask_id": config.get("mask_token_id"), "shift": True, "block_length": 32}


OPEN_DCODER = Family(
    about="Open-dCoder",
    backbone="Qwen2ForCausalLM",
    settings=qwen2,
    spec=spec,
    defaults={"policy": {"name": "top-k", "k": 1}},
)
