"""A backbone put together for decoding: the same parameters, some of its modules computed otherwise."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from fdllm.kernels import linear
from fdllm.kernels.store_kv import StoreKv
from fdllm.models import last_layer, storing_attention
from fdllm.models.storing_attention import StoringAttention


@dataclass(frozen=True)
class Rebuilt:
    """A causal LM for decoding.

    Attributes:
        module: shares its parameters with the module it was made of, which is left as it was.
        picks: its decoder stack is also given `feed`, and returns what predicts the window,
            float[B W D]; else every row it computes.

    """

    module: Any
    picks: bool


def rebuilt(module: Any, *, by_onednn: bool = True, picks: bool = True) -> Rebuilt:
    """Rebuild a module that has `get_decoder()`; a part that does not fit stays as it is.

    Args:
        module: a causal LM of transformers.
        by_onednn: send linear layers of float32 on a CPU to oneDNN.
        picks: let the last decoder layer compute what is read of it alone.

    """
    if _taken_over(module):
        return Rebuilt(module, picks=False)
    copied = _copied(module, lambda each: linear.OneDnnLinear(each) if by_onednn and linear.fits(each) else None)
    layers = _layers(copied)
    if not (picks and layers and last_layer.fits(layers[-1])):
        return Rebuilt(copied, picks=False)
    layers[-1] = last_layer.LastLayer(layers[-1])
    return Rebuilt(copied, picks=True)


def storing(made: Rebuilt, store_kv: StoreKv) -> Rebuilt | None:
    """Let every layer rotate and store by a kernel; None where one of them does not fit."""
    layers = _layers(made.module)
    if _taken_over(made.module) or not layers or not all(map(_stores, layers)):
        return None

    def instead(each: Any) -> nn.Module | None:
        return StoringAttention(each, store_kv) if storing_attention.fits(each) else None

    return replace(made, module=_copied(made.module, instead))


def _stores(layer: Any) -> bool:
    """Say whether the attention of a layer can rotate and store by a kernel."""
    whole = layer.layer if isinstance(layer, last_layer.LastLayer) else layer
    return storing_attention.fits(getattr(whole, "self_attn", whole))


def _layers(module: Any) -> nn.ModuleList:
    """Give the decoder layers, none where they are not told by the usual name."""
    found = dict(module.get_decoder().named_children()).get("layers")
    return found if isinstance(found, nn.ModuleList) else nn.ModuleList()


def _taken_over(module: Any) -> bool:
    """Say whether hooks of other libraries are bound to parts of a module: a copy would run the originals."""
    return any("forward" in vars(each) for each in module.modules())


def _copied(module: Any, instead: Callable[[Any], nn.Module | None]) -> Any:
    """Copy a module and its parts, parameters shared, with another in the place of some."""
    if (other := instead(module)) is not None:
        return other
    copied = copy.copy(module)
    copied._modules = {name: part and _copied(part, instead) for name, part in module._modules.items()}
    return copied
