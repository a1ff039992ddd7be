"""SDAR and TraDo, dense and mixture of experts, on the stock Qwen3 backbones: causal between blocks.

Source: Cheng et al. 2025, SDAR, arXiv:2510.06303; Wang et al. 2025, TraDo, arXiv:2509.06949;
checkpoints JetLM/SDAR-*-Chat (blocks of 4) and -b8, -b16, -b32, -b64, Gen-Verse/TraDo-*.
The mapped dense model gives the published logits exactly (tests/test_families.py).
"""

import re
from dataclasses import replace
from typing import Any

from fdllm.models.decoders import qwen3, qwen3_moe, sizes
from fdllm.models.family import Config, Family, given


def spec(config: Config) -> dict[str, Any]:
    """Predict each slot at its own row. The block is in the config, or in the name of the repository."""
    named = re.search(r"-b(\d+)(?![\w.])", str(config.get("_name_or_path", "")))
    return {
        **sizes(config),
        "mask_id": given(config, "mask_token_id", 151669),
        "pattern": "block-causal",
        "block_length": given(config, "block_size", int(named[1]) if named else 4),
    }


SDAR = Family(
    about="SDAR, TraDo",
    backbone="Qwen3ForCausalLM",
    settings=qwen3,
    spec=spec,
    ends=("<|im_end|>",),
    defaults={"policy": {"name": "threshold", "threshold": 0.9}},
)

SDAR_MOE = replace(SDAR, about="SDAR-30B-A3B", backbone="Qwen3MoeForCausalLM", settings=qwen3_moe)
