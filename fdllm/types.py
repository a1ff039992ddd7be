"""What flows along an edge of the step graph: dims, kind and unit, as aliases of Tensor.

Dims: B rows of the batch, W slots of the decode window, N slots of the canvas, V ids of the
vocabulary, D hidden width. `1` broadcasts. A component
annotates its parameters with these aliases; an alias of your own is
`Annotated[Tensor, Port("B W", "float", "bit")]`.
"""

from dataclasses import dataclass
from typing import Annotated, Any, get_args

from torch import Tensor


@dataclass(frozen=True)
class Port:
    """One end of an edge: symbolic dims, a dtype kind (`float`, `int64`, `bool`), a unit."""

    dims: str
    kind: str
    unit: str = ""

    def __str__(self) -> str:
        """Write the port as `float[B W] probability`."""
        return f"{self.kind}[{self.dims}] {self.unit}".strip()


def port_of(alias: Any) -> Port:
    """Give the port of an alias such as `Mask`."""
    return next(extra for extra in get_args(alias)[1:] if isinstance(extra, Port))


# what a policy may read and write
Mask = Annotated[Tensor, Port("B W", "bool")]
Tokens = Annotated[Tensor, Port("B W", "int64", "token id")]
Probability = Annotated[Tensor, Port("B W", "float", "probability")]
Entropy = Annotated[Tensor, Port("B W", "float", "nat")]
Logits = Annotated[Tensor, Port("B W V", "float", "logit")]
Count = Annotated[Tensor, Port("B 1", "int64", "token")]
StepCount = Annotated[Tensor, Port("B 1", "int64", "step")]
Fraction = Annotated[Tensor, Port("B 1", "float", "fraction")]
Temperature = Annotated[Tensor, Port("B 1", "float", "temperature")]
Uniform = Annotated[Tensor, Port("B W", "float", "uniform in (0, 1)")]

# what the engine's own nodes read and write besides
Hidden = Annotated[Tensor, Port("B W D", "float", "activation")]
CanvasTokens = Annotated[Tensor, Port("B N", "int64", "token id")]
CanvasMask = Annotated[Tensor, Port("B N", "bool")]
Slots = Annotated[Tensor, Port("B W", "int64", "slot")]
NoiseKey = Annotated[Tensor, Port("B W", "int64", "noise key")]

# not tensors: how the engine hands the forward its indices and its K/V
FeedPort = Annotated[Any, Port("", "feed")]
StorePort = Annotated[Any, Port("", "store")]
