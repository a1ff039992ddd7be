"""Which keys a query may attend to, as ranges of slots: numbers a kernel reads, where a mask would be bytes per pair.

Ragged batches, block-causal models and sliding windows all show each query one range of its row. A
cache that names single slots narrows a row further.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fdllm.transfer import to_device


@dataclass(frozen=True, eq=False)
class Visibility:
    """The keys each query sees: those of its range that are chosen.

    Attributes:
        starts: first key of the range, int32[B R], or [B 1] where it is the same for all queries of a row.
        ends: one behind its last key, int32[B R] or [B 1]; a range may be empty.
        num_keys: N, the slots that are keys at all; 0 <= start and end <= N.
        chosen: slots of the row that are keys, bool[B N]; None where the ranges say all.

    """

    starts: Tensor
    ends: Tensor
    num_keys: int
    chosen: Tensor | None = None
    _masks: list[Tensor] = field(default_factory=list, init=False, repr=False)

    @property
    def mask(self) -> Tensor:
        """The same as bool[B 1 R N] (R may be 1), made once, for backends that want it."""
        # no cached_property: up to Python 3.11 it takes a lock, which torch.compile cannot
        if not self._masks:
            self._masks.append(self._mask())
        return self._masks[0]

    def _mask(self) -> Tensor:
        keys = torch.arange(self.num_keys, device=self.starts.device)
        seen = (keys >= self.starts[..., None]) & (keys < self.ends[..., None])
        seen = seen if self.chosen is None else seen & self.chosen[:, None]
        return seen[:, None]

    def picked(self, queries: Tensor) -> "Visibility":
        """Keep some queries of each row, by their index, int64[B W]."""
        if self.ends.shape[1] == self.starts.shape[1] == 1:
            return self
        starts, ends = (
            part.expand(-1, max(self.starts.shape[1], self.ends.shape[1])) for part in (self.starts, self.ends)
        )
        return replace(self, starts=starts.gather(1, queries), ends=ends.gather(1, queries))

    def to(self, device: torch.device) -> "Visibility":
        """Copy with its tensors on a device."""
        chosen = None if self.chosen is None else to_device(self.chosen, device)
        return replace(self, starts=to_device(self.starts, device), ends=to_device(self.ends, device), chosen=chosen)
