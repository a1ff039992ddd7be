"""Configs that name things as the stock decoders of transformers do: copy what their classes declare.

A whitelist, for published configs also hold keys of training and of other engines.
"""

from typing import Any

from fdllm.models.family import CheckpointError, Config, given, refuse, required

_DECLARED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "rms_norm_eps",
)


def qwen2(config: Config) -> dict[str, Any]:
    """Keep what Qwen2Config declares; biases of q, k and v are built in."""
    refuse(config, {"use_sliding_window": False, "use_mrope": False})
    if kinds := set(given(config, "layer_types", ())) - {"full_attention"}:
        raise CheckpointError(f"config.json: layer_types has {sorted(kinds)} (only 'full_attention' is supported)")
    return {
        **{key: required(config, key) for key in _DECLARED},
        "num_key_value_heads": given(config, "num_key_value_heads", required(config, "num_attention_heads")),
        "hidden_act": given(config, "hidden_act", "silu"),
        "rope_parameters": rope(config),
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        "use_sliding_window": False,
        **token_ids(config),
    }


def qwen3(config: Config) -> dict[str, Any]:
    """Keep what Qwen3Config declares: Qwen2's, with norms of q and k, and heads of any width."""
    return {**qwen2(config), "head_dim": head_dim(config), "attention_bias": bool(config.get("attention_bias", False))}


def qwen3_moe(config: Config) -> dict[str, Any]:
    """Keep what Qwen3MoeConfig declares."""
    own = ("moe_intermediate_size", "num_experts", "num_experts_per_tok", "norm_topk_prob")
    return {
        **qwen3(config),
        **{key: required(config, key) for key in own},
        "decoder_sparse_step": given(config, "decoder_sparse_step", 1),
        "mlp_only_layers": given(config, "mlp_only_layers", []),
    }


def llama(config: Config) -> dict[str, Any]:
    """Keep what LlamaConfig declares: Qwen3's names, and a bias in the MLP."""
    kept = {**qwen3(config), "mlp_bias": bool(config.get("mlp_bias", False))}
    del kept["use_sliding_window"]
    return kept


def head_dim(config: Config) -> int:
    """Give the width of a head, the even share of the hidden size unless the config says otherwise."""
    return int(given(config, "head_dim", required(config, "hidden_size") // required(config, "num_attention_heads")))


def rope(config: Config) -> dict[str, Any]:
    """Give `rope_parameters` from the keys of transformers 4 (`rope_theta`, `rope_scaling`) or 5; no scaling."""
    whole = given(config, "rope_parameters", {})
    scaling = given(config, "rope_scaling", {})
    for name, table in (("rope_parameters", whole), ("rope_scaling", scaling)):
        if (kind := table.get("rope_type", table.get("type", "default"))) != "default":
            raise CheckpointError(f"config.json: {name} has rope_type {kind!r} (only 'default' is supported)")
    theta = whole["rope_theta"] if "rope_theta" in whole else required(config, "rope_theta")
    return {"rope_type": "default", "rope_theta": theta}


def token_ids(config: Config) -> dict[str, Any]:
    """Keep the ids the backbone's config declares; the loop reads those of the spec."""
    return {key: config.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}


def sizes(config: Config) -> dict[str, Any]:
    """Fields of `Spec` that all such configs share."""
    return {"vocab_size": required(config, "vocab_size"), "context": required(config, "max_position_embeddings")}
