"""State of the canvas that one step hands to the next: a policy's own columns, and previous values."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fdllm.types import Port

# `previous_<value>` is the value one step earlier
PREVIOUS = "previous_"
# of the slots of the window, of the row, of the window's logits
CARRIED = ("B W", "B 1", "B W V")


@dataclass(frozen=True)
class Column:
    """One piece of state.

    Attributes:
        port: of the value at the window (`B W`, or `B W V` for logits), or of the row (`B 1`).
        fill: what it holds when a block begins; NaN where there is no previous value yet. Logits are
            [B, 0, 0] then.

    """

    port: Port
    fill: float

    @property
    def by_slot(self) -> bool:
        """Whether it is kept for every slot of the canvas; else it begins anew with every window."""
        return self.port.dims == "B W"

    def blank(self, batch: int, num_slots: int, device: torch.device) -> Tensor:
        """Make it hold its fill everywhere: [batch, num_slots], [batch, 1] for a row's, [batch, 0, 0] for logits."""
        dtype = {"float": torch.float32, "int64": torch.int64, "bool": torch.bool}[self.port.kind]
        shape = {"B W": (num_slots,), "B 1": (1,), "B W V": (0, 0)}[self.port.dims]
        return torch.full((batch, *shape), self.fill, dtype=dtype, device=device)
