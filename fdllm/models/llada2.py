"""LLaDA2.0, 2.1 and 2.2 on the stock GLM-4-MoE backbone: causal between blocks of 32.

Source: Bie et al. 2025, LLaDA2.0, arXiv:2512.15745; checkpoints inclusionAI/LLaDA2.0-mini, -flash,
-mini-CAP, -flash-CAP, LLaDA2.1-mini, -flash, LLaDA2.2-flash. Published logits of 2.0 and 2.1 within
the summation order of the experts (tests/test_families.py); the code of 2.2 was not at hand.
"""

from functools import cache
from typing import Any

import transformers
from transformers import conversion_mapping, core_model_loading

from fdllm.models.decoders import head_dim, rope, sizes, token_ids
from fdllm.models.family import CheckpointError, Config, Family, at_most, count, given, number, refuse, required

_COMPUTED = {
    "hidden_act": "silu",
    "use_qkv_bias": False,
    "use_bias": False,
    "norm_head": False,
    "norm_topk_prob": True,
    "score_function": "sigmoid",
    "moe_router_enable_expert_bias": True,
    "use_sliding_window": False,
}

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "moe_intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "num_experts_per_tok",
    "n_group",
    "topk_group",
)

# published names to those of GLM-4-MoE; q, k and v come in one tensor, which is split below
_RENAMED = {
    r"^model\.word_embeddings\.": "model.embed_tokens.",
    r"\.attention\.dense\.": ".self_attn.o_proj.",
    r"\.attention\.query_layernorm\.": ".self_attn.q_norm.",
    r"\.attention\.key_layernorm\.": ".self_attn.k_norm.",
    r"\.attention\.query_key_value\.": ".self_attn.query_key_value.",
    r"\.mlp\.gate\.expert_bias": ".mlp.gate.e_score_correction_bias",
}


@cache
def backbone() -> Any:
    """Give GLM-4-MoE under a name of its own, with the conversion of the published weights.

    It takes the backbone's `__module__`, or transformers would hold it for remote code and run the
    experts one by one.

    Raises:
        CheckpointError: transformers is too old to split q, k and v.

    """
    if not hasattr(core_model_loading, "Split"):
        raise CheckpointError(f"LLaDA2 needs transformers 5.20.2 or newer, not {transformers.__version__}")
    glm = transformers.Glm4MoeForCausalLM
    split = core_model_loading.WeightConverter(
        "self_attn.query_key_value.weight",
        [f"self_attn.{part}_proj.weight" for part in "qkv"],
        operations=[core_model_loading.Split(dim=0)],
    )
    renamed = [core_model_loading.WeightRenaming(old, new) for old, new in _RENAMED.items()]
    stacked = conversion_mapping.get_checkpoint_conversion_mapping("glm4_moe")
    conversion_mapping.register_checkpoint_conversion_mapping("LLaDA2", [*stacked, *renamed, split], overwrite=True)
    return type("LLaDA2", (glm,), {"__module__": glm.__module__})


def settings(config: Config) -> dict[str, Any]:
    """Name LLaDA2's config as Glm4MoeConfig does."""
    refuse(config, _COMPUTED)
    partial = number(config, "partial_rotary_factor", 0.5)
    refuse(config, {"rotary_dim": int(partial * head_dim(config))})
    at_most(config, "num_experts_per_tok", "num_experts")
    _check_groups(config)
    return {
        **{key: count(config, key) for key in _SIZES},
        "rms_norm_eps": number(config, "rms_norm_eps", above=0),
        "head_dim": head_dim(config),
        "n_routed_experts": count(config, "num_experts"),
        "n_shared_experts": count(config, "num_shared_experts"),
        "first_k_dense_replace": required(config, "first_k_dense_replace"),
        "routed_scaling_factor": number(config, "routed_scaling_factor"),
        "norm_topk_prob": True,
        "use_qk_norm": bool(given(config, "use_qk_norm", True)),
        "rope_parameters": {**rope(config), "partial_rotary_factor": partial},
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        "num_mtp_layers": 0,
        **token_ids(config),
    }


def _check_groups(config: Config) -> None:
    """Check that experts split into groups of two or more, for a group is scored by its best two."""
    at_most(config, "topk_group", "n_group")
    experts, groups = count(config, "num_experts"), count(config, "n_group")
    if experts % groups or experts < 2 * groups:
        raise CheckpointError(
            f"config.json: num_experts = {experts} do not split into n_group = {groups} groups of two or more"
        )


def spec(config: Config) -> dict[str, Any]:
    """LLaDA2 predicts each slot at its own row, in blocks of 32; the config does not name them."""
    return {
        **sizes(config),
        "mask_id": given(config, "mask_token_id", 156895),
        "pattern": "block-causal",
        "block_length": 32,
    }


LLADA2 = Family(
    about="LLaDA2.0, LLaDA2.1, LLaDA2.2",
    backbone=backbone,
    settings=settings,
    spec=spec,
    ends=("<|role_end|>",),
    defaults={"policy": {"name": "threshold", "threshold": 0.95}},
    fused=True,
)
