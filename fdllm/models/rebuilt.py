"""A backbone put together for decoding: the same parameters, some of its modules computed otherwise."""

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn

from fdllm.kernels import linear
from fdllm.models import last_layer


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
    # hooks of other libraries are bound to the module they were set on: a copy would run the original
    if any("forward" in vars(each) for each in module.modules()):
        return Rebuilt(module, picks=False)
    copied = _copied(module, by_onednn)
    layers = dict(copied.get_decoder().named_children()).get("layers")
    if not (picks and isinstance(layers, nn.ModuleList) and len(layers) and last_layer.fits(layers[-1])):
        return Rebuilt(copied, picks=False)
    layers[-1] = last_layer.LastLayer(layers[-1])
    return Rebuilt(copied, picks=True)


def _copied(module: Any, by_onednn: bool) -> Any:
    if by_onednn and linear.fits(module):
        return linear.OneDnnLinear(module)
    copied = copy.copy(module)
    copied._modules = {name: part and _copied(part, by_onednn) for name, part in module._modules.items()}
    return copied
