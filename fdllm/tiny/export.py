"""Writes a checkpoint in LLaDA's published layout, so that it loads like any other LLaDA."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fdllm.tiny.model import Shape
from fdllm.tiny.tokenizer import EOS_ID, MASK_ID, PAD_ID

PREFIX = "model.transformer."
"""What LLaDA's published names begin with."""


def config_of(shape: Shape) -> dict[str, Any]:
    """Spell a shape as config.json, in LLaDA's names."""
    return {
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        "d_model": shape.hidden,
        "n_layers": shape.layers,
        "n_heads": shape.heads,
        "n_kv_heads": shape.heads,
        "mlp_hidden_size": shape.inner,
        "mlp_ratio": 4,
        "vocab_size": shape.vocab,
        "embedding_size": shape.vocab,
        "max_sequence_length": shape.max_length,
        "rope": True,
        "rope_theta": shape.theta,
        "rope_full_precision": True,
        "rms_norm_eps": shape.eps,
        "weight_tying": True,
        "block_type": "llama",
        "block_group_size": 1,
        "activation_type": "silu",
        "layer_norm_type": "rms",
        "alibi": False,
        "attention_dropout": 0.0,
        "attention_layer_norm": False,
        "bias_for_layer_norm": False,
        "embedding_dropout": 0.0,
        "flash_attention": False,
        "include_bias": False,
        "include_qkv_bias": False,
        "init_device": "cpu",
        "input_emb_norm": False,
        "multi_query_attention": None,
        "residual_dropout": 0.0,
        "scale_logits": False,
        "torch_dtype": "float32",
        "use_cache": False,
        "eos_token_id": EOS_ID,
        "pad_token_id": PAD_ID,
        "mask_token_id": MASK_ID,
    }


def export(checkpoint: Path, folder: Path, temperature: float = 1.0) -> None:
    """Write weights (bfloat16), configuration and tokenizer of a checkpoint to a folder.

    Args:
        checkpoint: a `last.pt`, beside its tokenizer.
        folder: where to write.
        temperature: the final norm, and with it every logit, is divided by this. What is likeliest stays so; above 1
            the model is less sure of it, and a threshold commits less at once. Source: Guo et al. 2017,
            arXiv:1706.04599.
    """
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    masters = saved["optimizer"]["masters"]
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint.parent / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config_of(Shape(**saved["shape"])), indent=2) + "\n")
    masters["ln_f.weight"] /= temperature
    weights = {f"{PREFIX}{name}": weight.bfloat16().contiguous() for name, weight in masters.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    # save_file leaves a file that only its writer may read
    (folder / "model.safetensors").chmod(0o644)
