"""fdllm: a small compiler for decoding diffusion language models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdllm.compiling import compile
    from fdllm.config import DecodingConfig
    from fdllm.decoder import Decoder
    from fdllm.generation import Event, Generation, Stats
    from fdllm.models.denoiser import Denoiser
    from fdllm.models.spec import Spec
    from fdllm.registry import discover
    from fdllm.trace import Move

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

_HOMES = {
    "Decoder": "decoder",
    "DecodingConfig": "config",
    "Denoiser": "models.denoiser",
    "Event": "generation",
    "Generation": "generation",
    "Move": "trace",
    "Spec": "models.spec",
    "Stats": "generation",
    "compile": "compiling",
    "discover": "registry",
}


def load(path: str = "tiny", *, dtype: str = "auto", device: str = "auto", **overrides: Any) -> "Denoiser":
    """Load a model by hub id, folder or built-in name; see `fdllm.models.load.load`."""
    from fdllm.models.load import load as load_model

    return load_model(path, dtype=dtype, device=device, **overrides)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import fdllm` waits for no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fdllm' has no attribute {name!r}")
    return getattr(import_module(f"fdllm.{_HOMES[name]}"), name)
