"""Head statistics in plain torch: all logits of the rows, then their row statistics."""

from dataclasses import dataclass

from torch import Tensor

from fdllm.kernels.head_statistics import HeadWeight
from fdllm.kernels.row_statistics.reference import RowStatistics
from fdllm.sampling import Greedy, Sample
from fdllm.types import Hidden


@dataclass(frozen=True)
class HeadStatistics:
    """Compute the wanted statistics of the logits that hidden states give.

    Attributes:
        head: the LM head.
        draw, reads, wanted: as in `RowStatistics`.

    """

    head: HeadWeight
    draw: Greedy | Sample
    reads: tuple[str, ...]
    wanted: tuple[str, ...]

    def __call__(self, hidden: Hidden, *values: Tensor) -> tuple[Tensor, ...] | Tensor:
        """Compute.

        Args:
            hidden: float[B W D] in the dtype of the head.
            values: int64[B W] for each name of `reads`.

        Returns:
            As `RowStatistics`: one tensor [B W] per name of `wanted`.

        """
        return RowStatistics(self.draw, self.reads, self.wanted)(self.head.logits(hidden), *values)
