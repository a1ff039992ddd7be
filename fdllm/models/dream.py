"""Dream, Dream-Coder, DiffuCoder and DreamOn on the stock Qwen2 backbone; their logits are shifted by one.

Source: Ye et al. 2025, arXiv:2508.15487; checkpoints Dream-org/Dream-v0-Base-7B, -Instruct-7B,
Dream-Coder-v0-*, DreamOn-v0-7B; apple/DiffuCoder-7B-Base, -Instruct, -cpGRPO.
The mapped model gives the published logits exactly (tests/test_families.py).
"""

from typing import Any

from fdllm.models.decoders import qwen2, sizes
from fdllm.models.family import Config, Family, given


def spec(config: Config) -> dict[str, Any]:
    """Dream predicts slot i at row i - 1, under full attention."""
    return {**sizes(config), "mask_id": given(config, "mask_token_id", 151666), "shift": True, "block_length": 32}


DREAM = Family(
    about="Dream, Dream-Coder, DiffuCoder, DreamOn",
    backbone="Qwen2ForCausalLM",
    settings=qwen2,
    spec=spec,
    # the published tokenizer class needs remote code and reads the same files as Qwen2's
    tokenizer="Qwen2Tokenizer",
    ends=("<|im_end|>", "<|dlm_pad|>"),
    defaults={"policy": {"name": "threshold", "threshold": 0.9}},
)
