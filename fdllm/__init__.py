"""fdllm: a small compiler for decoding diffusion language models."""

from typing import Any

from fdllm.compiling import compile
from fdllm.decoder import Decoder
from fdllm.generation import Event, Generation, Move, Stats
from fdllm.models.denoiser import Denoiser
from fdllm.models.spec import Spec
from fdllm.registry import discover

__all__ = [
    "Decoder",
    "DecodingConfig",
    "Denoiser",
    "Event",
    "Generation",
    "Move",
    "Spec",
    "Stats",
    "compile",
    "discover",
    "load",
]


def load(path: str = "tiny", *, dtype: str = "auto", device: str = "auto", **overrides: Any) -> Denoiser:
    """Load a model by hub id, folder or built-in name; see `fdllm.models.load.load`."""
    from fdllm.models.load import load as load_model

    return load_model(path, dtype=dtype, device=device, **overrides)


def __getattr__(name: str) -> Any:
    """Import the config reader when it is asked for."""
    if name == "DecodingConfig":
        from fdllm.config import DecodingConfig

        return DecodingConfig
    raise AttributeError(f"module 'fdllm' has no attribute {name!r}")
