"""A LLaDA-shaped checkpoint of random, sharp weights in the published layout."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

WIDTH, LAYERS, HEADS, MLP, CONTEXT = 512, 8, 8, 1536, 2048


def mask_id(vocabulary: int) -> int:
    """The mask id: as far from the end as LLaDA's own, 126336 of 126464."""
    return vocabulary - 128


def config(vocabulary: int) -> dict[str, object]:
    """Write config.json as LLaDA's checkpoints do, with the sizes of this model."""
    return {
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        "activation_type": "silu",
        "alibi": False,
        "attention_dropout": 0.0,
        "attention_layer_norm": False,
        "bias_for_layer_norm": False,
        "block_group_size": 1,
        "block_type": "llama",
        "d_model": WIDTH,
        "embedding_dropout": 0.0,
        "embedding_size": vocabulary,
        "eos_token_id": vocabulary - 127,
        "flash_attention": False,
        "include_bias": False,
        "include_qkv_bias": False,
        "init_device": "cpu",
        "input_emb_norm": False,
        "layer_norm_type": "rms",
        "mask_token_id": mask_id(vocabulary),
        "max_sequence_length": CONTEXT,
        "mlp_hidden_size": MLP,
        "n_heads": HEADS,
        "n_kv_heads": HEADS,
        "n_layers": LAYERS,
        "pad_token_id": vocabulary - 127,
        "residual_dropout": 0.0,
        "rms_norm_eps": 1e-5,
        "rope": True,
        "rope_full_precision": True,
        "rope_theta": 500000.0,
        "scale_logits": False,
        "torch_dtype": "float32",
        "use_cache": False,
        "vocab_size": vocabulary,
        "weight_tying": False,
    }


def weights(vocabulary: int, seed: int, sharpness: float) -> dict[str, Tensor]:
    """Draw the weights. The mask id has no row in the head, so it is never a candidate.

    Args:
        vocabulary: number of ids.
        seed: of the draw.
        sharpness: standard deviation of the logits. Random weights predict nothing for sure; at
            about 14 the likeliest of 32,000 ids leads the next by some logits, as in a trained
            model, so that a threshold commits several slots a step and rounding decides nothing.

    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(rows: int, columns: int, scale: float = 1.0) -> Tensor:
        return torch.randn(rows, columns, generator=generator).mul_(scale * columns**-0.5)

    top = "model.transformer"
    found = {
        f"{top}.wte.weight": drawn(vocabulary, WIDTH, WIDTH**0.5),
        f"{top}.ln_f.weight": torch.ones(WIDTH),
        f"{top}.ff_out.weight": drawn(vocabulary, WIDTH, sharpness),
    }
    found[f"{top}.ff_out.weight"][mask_id(vocabulary)] = 0
    for layer in range(LAYERS):
        block = f"{top}.blocks.{layer}"
        # peaked attention: slots that all hold the mask id then differ by where they look
        found |= {f"{block}.{name}.weight": drawn(WIDTH, WIDTH, 2.0) for name in ("q_proj", "k_proj", "attn_out")}
        found[f"{block}.v_proj.weight"] = drawn(WIDTH, WIDTH)
        found |= {f"{block}.{name}.weight": drawn(MLP, WIDTH) for name in ("ff_proj", "up_proj")}
        found[f"{block}.ff_out.weight"] = drawn(WIDTH, MLP)
        found |= {f"{block}.{name}.weight": torch.ones(WIDTH) for name in ("attn_norm", "ff_norm")}
    return found


def write(folder: Path, vocabulary: int, seed: int = 0, sharpness: float = 14.0) -> Path:
    """Write a checkpoint into a folder and return the folder."""
    (folder / "config.json").write_text(json.dumps(config(vocabulary), indent=1))
    save_file(weights(vocabulary, seed, sharpness), folder / "model.safetensors", metadata={"format": "pt"})
    return folder
