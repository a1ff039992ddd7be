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

TILE = 2**16


def pays(head: HeadWeight, draw: Greedy | Sample) -> bool:
    """Say whether tiles are worth it: for samples, not where one tile is about the whole vocabulary."""
    return isinstance(draw, Sample) and len(head.weight) >= 8192


@dataclass(frozen=True)
class HeadStatistics:
    """The reference's rule; logits and sums are rounded in another order, candidates drawn from them alike.

    Attributes:
        head, draw, reads, wanted: as in the reference.
        tile: logits of a tile, over all rows.

    """

    head: HeadWeight
    draw: Greedy | Sample
    reads: tuple[str, ...]
    wanted: tuple[str, ...]
    tile: int = TILE

    def __call__(self, hidden: Hidden, *values: Tensor) -> tuple[Tensor, ...] | Tensor:
        """Compute; see the reference."""
        found = finish(self.partials(hidden, *values), self.wanted)
        shaped = tuple(each.view(hidden.shape[:2]) for each in found)
        return shaped if len(shaped) > 1 else shaped[0]

    def partials(self, hidden: Hidden, *values: Tensor, first: int = 0) -> Tensor:
        """Compute the partials of every row, float32[8 B*W S]; `first` is the id of the head's first row."""
        rows = hidden.flatten(0, 1)
        also = {name: value.flatten() for name, value in zip(self.reads, values, strict=True)}
        num_ids = max(1, self.tile // len(rows))
        found = []
        for start in range(0, len(self.head.weight), num_ids):
            scores = self.head.logits(rows, slice(start, start + num_ids)).float()
            found.append(partials_of(scores, self.draw, also, self.wanted, first + start))
        return torch.stack(found, -1)
