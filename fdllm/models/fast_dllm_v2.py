"""Fast-dLLM v2 on the stock Qwen2 backbone: causal between blocks, shifted by one.

Source: Wu et al. 2025, Fast-dLLM v2, arXiv:2509.26328; checkpoints
Efficient-Large-Model/Fast_dLLM_v2_7B, _1.5B. Blocks of 32 (`bd_size`) are decoded in sub-blocks
of 8. The mapped model gives the published logits exactly (tests/test_families.py).
"""

from typing import Any

from fdllm.models.decoders import qwen2, sizes
from fdllm.models.family import Config, Family, given


def spec(config: Config) -> dict[str, Any]:
    """Predict slot i at row i - 1: the first slot of a block from the last row of the block before."""
    return {
        **sizes(config),
        # the tokenizer does not call its `|<MASK>|` a mask
        "mask_id": given(config, "mask_token_id", 151665),
        "shift": True,
        "pattern": "block-causal",
        "block_length": given(config, "bd_size", 32),
    }


FAST_DLLM_V2 = Family(
    about="Fast-dLLM v2",
    backbone="Qwen2ForCausalLM",
    settings=qwen2,
    spec=spec,
    ends=("<|im_end|>",),
    defaults={"policy": {"name": "threshold", "threshold": 0.9}, "block_length": 8},
)
