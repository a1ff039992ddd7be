"""Commit the largest n with (n + 1)(1 - c_n) < factor, c_n the n-th best confidence.

Source: Wu et al. 2025, Fast-dLLM, arXiv:2505.22618, theorem 1 and its factor rule; the released
variant is get_transfer_index_dynamic of NVlabs/Fast-dLLM cb3a757.
"""

from typing import ClassVar, final

import torch
from pydantic import Field

from fdllm.policies.base import UnmaskingPolicy
from fdllm.ranking import ranks
from fdllm.types import Mask, Probability


@final
class Factor(UnmaskingPolicy):
    """Commit as many slots as the bound on their joint error allows, at least the best one.

    The bound gets stricter with the number committed: slot n needs c_n > 1 - factor / (n + 1).
    """

    progresses: ClassVar[bool] = True

    factor: float = Field(1.0, gt=0, description="bound on (n + 1)(1 - c_n); larger commits more")
    as_released: bool = Field(
        False,
        description="the published code's rule: >= instead of >, and the last open slot is committed although it fails",
    )

    def __call__(self, masked: Mask, confidence: Probability) -> Mask:
        """Choose the n best open slots of each row, bool[B W]; equal confidences go left first."""
        n = ranks(masked, confidence) + 1
        passes = self._holds(confidence, n) | (n == 1)
        num_open = masked.sum(-1, keepdim=True)
        # the first rank that fails ends the prefix; num_open + 1 where none does
        failed = torch.where(masked & ~passes, n, num_open + 1).amin(-1, keepdim=True)
        count = failed - 1
        if self.as_released:
            count = torch.where(failed == num_open, num_open, count)
        return masked & (n <= count)

    def _holds(self, confidence: Probability, n: torch.Tensor) -> torch.Tensor:
        if self.as_released:
            return confidence >= 1 - self.factor / (n + 1)
        return (n + 1) * (1 - confidence) < self.factor
