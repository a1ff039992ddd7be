"""iLLaDA on the stock Llama backbone: unlike LLaDA-8B its config and keys are named as Llama's.

Source: Improved Large Language Diffusion Models 2026, arXiv:2606.25331; checkpoints
GSAI-ML/iLLaDA-8B-Base, -Instruct (grouped-query attention, tied head).
"""

from typing import Any

from fdllm.models.decoders import llama, sizes
from fdllm.models.family import Config, Family, given, refuse


def settings(config: Config) -> dict[str, Any]:
    """Keep what LlamaConfig declares; the published layers have LayerNorm where layer_norm_eps is given."""
    refuse(config, {"layer_norm_eps": None})
    return llama(config)


def spec(config: Config) -> dict[str, Any]:
    """Predict each slot at its own row, under full attention; neither config nor tokenizer names the mask."""
    return {**sizes(config), "mask_id": given(config, "mask_token_id", 5), "block_length": 32}


ILLADA = Family(
    about="iLLaDA",
    backbone="LlamaForCausalLM",
    settings=settings,
    spec=spec,
    defaults={"policy": {"name": "threshold", "threshold": 0.9}},
)
