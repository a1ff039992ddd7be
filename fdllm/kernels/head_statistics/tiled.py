"""Head statistics in torch, a tile of the vocabulary at a time: no more logits than that exist.

A tile stays in the processor's cache while its statistics are taken, and so does the noise of a
sample. `docs/log.md` says where it pays.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fdllm.kernels.head_statistics import HeadWeight
from fdllm.kernels.partials.reference import finish, partials_of
from fdllm.sampling import Greedy, Sample
from fdllm.types import Hidden

TILE = 4096


@dataclass(frozen=True)
class HeadStatistics:
    """The reference's rule; logits and sums are rounded in another order, candidates drawn from them alike.

    Attributes:
        head, draw, reads, wanted: as in the reference.
        tile: ids of a tile.

    """

    head: HeadWeight
    draw: Greedy | Sample
    reads: tuple[str, ...]
    wanted: tuple[str, ...]
    tile: int = TILE

    def __call__(self, hidden: Hidden, *values: Tensor) -> tuple[Tensor, ...] | Tensor:
        """Compute; see the reference."""
        rows = hidden.flatten(0, 1)
        also = {name: value.flatten() for name, value in zip(self.reads, values, strict=True)}
        partials = []
        for first in range(0, len(self.head.weight), self.tile):
            scores = self.head.logits(rows, slice(first, first + self.tile)).float()
            partials.append(partials_of(scores, self.draw, also, self.wanted, first))
        found = finish(torch.stack(partials, -1), self.wanted)
        shaped = tuple(each.unflatten(0, hidden.shape[:2]) for each in found)
        return shaped if len(shaped) > 1 else shaped[0]
