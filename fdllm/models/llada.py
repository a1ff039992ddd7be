"""LLaDA-8B and LLaDA 1.5 on the stock Llama backbone.

Source: Nie et al. 2025, arXiv:2502.09992; checkpoints GSAI-ML/LLaDA-8B-Base, -Instruct, LLaDA-1.5.
The mapped model gives the published logits exactly (tests/test_families.py).
"""

from typing import Any

from fdllm.models.decoders import rope
from fdllm.models.family import CheckpointError, Config, Family, at_most, count, given, number, padding, refuse

_COMPUTED = {
    "block_type": "llama",
    "activation_type": "silu",
    "layer_norm_type": "rms",
    "rope": True,
    "alibi": False,
    "scale_logits": False,
    "input_emb_norm": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "layer_norm_with_affine": True,
}


def settings(config: Config) -> dict[str, Any]:
    """Name LLaDA's config as LlamaConfig does."""
    refuse(config, _COMPUTED)
    if config.get("include_qkv_bias") and not config.get("include_bias"):
        raise CheckpointError("config.json: include_qkv_bias without include_bias is not supported by this backbone")
    bias = bool(config.get("include_bias", False))
    heads = count(config, "n_heads")
    rows = count(config, "embedding_size", count(config, "vocab_size"))
    at_most({**config, "embedding_size": rows}, "vocab_size", "embedding_size")
    return {
        "vocab_size": rows,
        "hidden_size": count(config, "d_model"),
        "num_hidden_layers": count(config, "n_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": count(config, "n_kv_heads", 1 if config.get("multi_query_attention") else heads),
        "intermediate_size": count(config, "mlp_hidden_size"),
        "max_position_embeddings": count(config, "max_sequence_length"),
        "rope_parameters": rope(config),
        "rms_norm_eps": number(config, "rms_norm_eps", above=0),
        "tie_word_embeddings": bool(config.get("weight_tying", False)),
        "attention_bias": bias,
        "mlp_bias": bias,
        "hidden_act": "silu",
        "bos_token_id": None,
        "eos_token_id": config.get("eos_token_id"),
        "pad_token_id": padding(config, rows),
    }


def spec(config: Config) -> dict[str, Any]:
    """LLaDA predicts each slot at its own row, under full attention."""
    return {
        "mask_id": given(config, "mask_token_id", 126336),
        "vocab_size": count(config, "vocab_size"),
        "context": count(config, "max_sequence_length"),
        "block_length": 32,
    }


LLADA = Family(
    about="LLaDA-8B, LLaDA 1.5",
    backbone="LlamaForCausalLM",
    settings=settings,
    spec=spec,
    ends=("<|eot_id|>",),
    defaults={"policy": {"name": "threshold", "threshold": 0.9}},
    # the head comes before the blocks' ff_out; absent when tied
    keys={
        r"^model\.transformer\.wte\.": "model.embed_tokens.",
        r"^model\.transformer\.ln_f\.": "model.norm.",
        r"^model\.transformer\.ff_out\.": "lm_head.",
        r"^model\.transformer\.blocks\.": "model.layers.",
        r"\.attn_norm\.": ".input_layernorm.",
        r"\.ff_norm\.": ".post_attention_layernorm.",
        r"\.([qkv]_proj)\.": r".self_attn.\1.",
        r"\.attn_out\.": ".self_attn.o_proj.",
        r"\.ff_proj\.": ".mlp.gate_proj.",
        r"\.up_proj\.": ".mlp.up_proj.",
        r"\.ff_out\.": ".mlp.down_proj.",
    },
)
