"""LLaDA-MoE on the stock Qwen3-MoE backbone; its config shares model_type `llada` with LLaDA-8B.

Source: Zhu et al. 2025, LLaDA-MoE, arXiv:2509.24389; checkpoints inclusionAI/LLaDA-MoE-7B-A1B-Base,
-Instruct. Published logits within the summation order of the experts (tests/test_families.py).
"""

from typing import Any

from fdllm.models.decoders import head_dim, rope, sizes, token_ids
from fdllm.models.family import CheckpointError, Config, Family, at_most, count, given, number, refuse

_COMPUTED = {
    "hidden_act": "silu",
    "qk_layernorm": True,
    "moe_router_score_function": "softmax",
    "moe_router_enable_expert_bias": False,
    "clip_qkv": None,
    "partial_rotary_factor": 1,
    "routed_scaling_factor": 1,
    "router_num_group": None,
    "router_topk_group": None,
    "use_sliding_window": False,
}

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "num_experts",
    "num_experts_per_tok",
)


def settings(config: Config) -> dict[str, Any]:
    """Name LLaDA-MoE's config as Qwen3MoeConfig does."""
    refuse(config, _COMPUTED)
    for key in ("shared_expert_intermediate_size", "num_shared_experts"):
        if shared := config.get(key):
            raise CheckpointError(f"config.json: {key} = {shared} (no shared expert is supported)")
    at_most(config, "num_experts_per_tok", "num_experts")
    layers = range(count(config, "num_hidden_layers"))
    sparse = given(config, "moe_layer_freq", [1] * len(layers))
    if not isinstance(sparse, list) or len(sparse) != len(layers):
        raise CheckpointError(
            f"config.json: moe_layer_freq = {sparse!r} is not one number for each of {len(layers)} layers"
        )
    return {
        **{key: count(config, key) for key in _SIZES},
        "rms_norm_eps": number(config, "rms_norm_eps", above=0),
        "head_dim": head_dim(config),
        # a model of sparse layers alone need not say it
        "intermediate_size": given(config, "dense_intermediate_size", count(config, "expert_intermediate_size")),
        "moe_intermediate_size": count(config, "expert_intermediate_size"),
        # the published block never normalizes, whatever its config says
        "norm_topk_prob": False,
        "mlp_only_layers": [i for i in layers if not sparse[i]],
        "rope_parameters": rope(config),
        "attention_bias": bool(config.get("attention_bias", False)),
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        **token_ids(config),
    }


def spec(config: Config) -> dict[str, Any]:
    """LLaDA-MoE predicts each slot at its own row, under full attention."""
    return {**sizes(config), "mask_id": given(config, "mask_token_id", 156895), "block_length": 32}


LLADA_MOE = Family(
    about="LLaDA-MoE",
    backbone="Qwen3MoeForCausalLM",
    settings=settings,
    spec=spec,
    ends=("<|role_end|>",),
    defaults={"policy": {"name": "top-k", "k": 1}},
)
