"""State of the canvas that one step hands to the next: a policy's own columns, and previous values."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fdllm.types import Port


@dataclass(frozen=True)
class Column:
    """One piece of state.

    Attributes:
        port: of the value at the window (`B W`), or of the row (`B 1`).
        fill: what it holds when a block begins; NaN where there is no previous value yet.

    """

    port: Port
    fill: float

    def blank(self, batch: int, num_slots: int, device: torch.device) -> Tensor:
        """Make it hold its fill everywhere: [batch, num_slots], or [batch, 1] for a row's."""
        dtype = {"float": torch.float32, "int64": torch.int64, "bool": torch.bool}[self.port.kind]
        width = 1 if self.port.dims == "B 1" else num_slots
        return torch.full((batch, width), self.fill, dtype=dtype, device=device)
