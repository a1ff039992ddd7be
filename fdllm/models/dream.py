"""Dream-7B on the stock Qwen2 backbone; its logits are shifted by one.

Source: Ye et al. 2025, arXiv:2508.15487; checkpoints Dream-org/Dream-v0-Base-7B, -Instruct-7B.
The mapped model gives the published logits exactly (tests/test_families.py).
"""

from typing import Any

from fdllm.models.family import CheckpointError, Config, Family, refuse, required

_SAME_NAME = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "hidden_act",
)


def settings(config: Config) -> dict[str, Any]:
    """Keep what Qwen2Config declares under the same name."""
    refuse(config, {"use_sliding_window": False, "use_mrope": False})
    if config.get("rope_scaling"):
        raise CheckpointError(f"config.json: rope_scaling = {config['rope_scaling']!r} (only null is supported)")
    return {
        **{key: required(config, key) for key in _SAME_NAME},
        "rope_parameters": {"rope_type": "default", "rope_theta": required(config, "rope_theta")},
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        "use_sliding_window": False,
        "bos_token_id": config.get("bos_token_id"),
        "eos_token_id": config.get("eos_token_id"),
        "pad_token_id": config.get("pad_token_id"),
    }


def spec(config: Config) -> dict[str, Any]:
    """Dream predicts slot i at row i - 1, under full attention."""
    return {
        "mask_id": config.get("mask_token_id", 151666),
        "vocab_size": required(config, "vocab_size"),
        "context": required(config, "max_position_embeddings"),
        "shift": True,
        "block_length": 32,
    }


# the published tokenizer class needs remote code and reads the same files as Qwen2's
DREAM = Family(backbone="Qwen2ForCausalLM", settings=settings, spec=spec, tokenizer="Qwen2Tokenizer")
