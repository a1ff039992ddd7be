"""Configs that name things as the stock decoders of transformers do: copy what their classes declare.

A whitelist, for published configs also hold keys of training and of other engines.
"""

from typing import Any

from fdllm.models.family import CheckpointError, Config, at_most, count, given, number, padding, refuse, required

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)


def qwen2(config: Config) -> dict[str, Any]:
    """Keep what Qwen2Config declares; biases of q, k and v are built in."""
    refuse(config, {"hidden_act": "silu", "use_sliding_window": False, "use_mrope": False})
    kinds = given(config, "layer_types", [])
    if wrong := {*map(str, kinds if isinstance(kinds, list) else [kinds])} - {"full_attention"}:
        raise CheckpointError(f"config.json: layer_types has {sorted(wrong)} (only 'full_attention' is supported)")
    return {
        **{key: count(config, key) for key in _SIZES},
        "num_key_value_heads": count(config, "num_key_value_heads", count(config, "num_attention_heads")),
        "rms_norm_eps": number(config, "rms_norm_eps", above=0),
        "hidden_act": "silu",
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
    at_most(config, "num_experts_per_tok", "num_experts")
    return {
        **qwen3(config),
        **{key: count(config, key) for key in ("moe_intermediate_size", "num_experts", "num_experts_per_tok")},
        "norm_topk_prob": required(config, "norm_topk_prob"),
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
    return count(config, "head_dim", count(config, "hidden_size") // count(config, "num_attention_heads"))


def rope(config: Config) -> dict[str, Any]:
    """Give `rope_parameters` from the keys of transformers 4 (`rope_theta`, `rope_scaling`) or 5; no scaling."""
    tables = {name: given(config, name, {}) for name in ("rope_parameters", "rope_scaling")}
    for name, table in tables.items():
        kind = table.get("rope_type", table.get("type", "default")) if isinstance(table, dict) else table
        if kind != "default":
            raise CheckpointError(f"config.json: {name} has rope_type {kind!r} (only 'default' is supported)")
    theta = number({**config, **tables["rope_parameters"]}, "rope_theta", above=0)
    return {"rope_type": "default", "rope_theta": theta}


def token_ids(config: Config) -> dict[str, Any]:
    """Keep the ids the backbone's config declares; the loop reads those of the spec."""
    pad = padding(config, count(config, "vocab_size"))
    return {"pad_token_id": pad, **{key: config.get(key) for key in ("bos_token_id", "eos_token_id")}}


def sizes(config: Config) -> dict[str, Any]:
    """Fields of `Spec` that all such configs share."""
    return {"vocab_size": count(config, "vocab_size"), "context": count(config, "max_position_embeddings")}
