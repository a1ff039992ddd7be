"""Commit the surest open slots together while the entropy they leave out of account stays under a bound.

Source: Ben-Hamu et al. 2025, EB-Sampler, arXiv:2505.24857, algorithm 1, with the entropy itself as
the error that orders the slots. There is no official code.
"""

from typing import ClassVar, final

from pydantic import Field
from torch.nn.functional import pad

from fdllm.policies.base import UnmaskingPolicy
from fdllm.ranking import ranks
from fdllm.types import Entropy, Mask


@final
class EntropyBound(UnmaskingPolicy):
    """Commit the longest run of slots, surest first, whose entropies but for the last add up to `gamma` or less.

    That sum bounds how far the joint distribution of the slots can be from the product they are
    drawn from. One slot alone leaves nothing out, so the first always passes.
    """

    progresses: ClassVar[bool] = True

    gamma: float = Field(
        0.1, ge=0, allow_inf_nan=False, description="bound on the summed entropies in nats; larger commits more"
    )

    def __call__(self, masked: Mask, entropy: Entropy) -> Mask:
        """Choose the open slots under the bound, bool[B W]; of equal entropies the leftmost goes first."""
        rank = ranks(masked, -entropy)
        # float64, so that the bound does not depend on the order of summing
        ascending = entropy.double().gather(-1, rank.argsort(dim=-1))
        left_out = pad(ascending.cumsum(-1)[..., :-1], (1, 0))
        return masked & (left_out <= self.gamma).gather(-1, rank)
