"""Keep the surest slots as a draft, blank the others again, and commit the whole window once it is stable.

Source: transformers 5.23, DiffusionGemma, generation_diffusion_gemma.py: EntropyBoundSampler (after
Ben-Hamu et al. 2025, arXiv:2505.24857) and StableAndConfidentStoppingCriteria. Tokens equal that
code's under shared noise (tests/test_diffusion_gemma.py).
"""

from typing import Annotated, ClassVar, NamedTuple, final

import torch
from pydantic import Field
from torch import Tensor

from fdllm.policies.base import UnmaskingPolicy
from fdllm.ranking import ranks
from fdllm.types import Entropy, Mask, Port, Tokens

StableSteps = Annotated[Tensor, Port("B 1", "int64", "step")]


class Drafted(NamedTuple):
    """What `Renoise` answers: `unchanged` counts the steps for which the likeliest ids stayed as they are."""

    commit: Mask
    draft: Mask
    unchanged: StableSteps


@final
class Renoise(UnmaskingPolicy):
    """Nothing is final before the window is: every open slot is drawn anew each step.

    The draft is the longest run of slots, surest first, whose entropies but for the last add up to
    `entropy_bound` or less. The window is committed, each slot its likeliest id, when those ids have
    not changed for `stable_steps` steps and their mean entropy is below `mean_entropy`, or at step `steps`.
    """

    drafts: ClassVar[bool] = True
    tempered: ClassVar[bool] = True
    columns: ClassVar = {"unchanged": 0}

    steps: int = Field(48, ge=1, description="the most steps a window takes")
    entropy_bound: float = Field(0.1, gt=0, description="bound on the summed entropies of a draft, in nats")
    stable_steps: int = Field(1, ge=0, description="steps for which the likeliest ids must stay as they are")
    mean_entropy: float = Field(0.005, gt=0, description="mean entropy of the open slots to stop below, in nats")

    def __call__(
        self, masked: Mask, entropy: Entropy, likeliest: Tokens, previous_likeliest: Tokens, unchanged: StableSteps
    ) -> Drafted:
        """Choose; of equal entropies the leftmost is drafted first."""
        rank = ranks(masked, -entropy)
        ascending = entropy.gather(-1, rank.argsort(dim=-1))
        left_out = ascending.cumsum(-1) - ascending
        draft = masked & (left_out <= self.entropy_bound).gather(-1, rank)
        same = (~masked | (likeliest == previous_likeliest)).all(-1, keepdim=True)
        unchanged = torch.where(same, unchanged + 1, 0)
        mean = entropy.where(masked, 0).sum(-1, keepdim=True) / masked.sum(-1, keepdim=True)
        return Drafted(masked & (unchanged >= self.stable_steps) & (mean < self.mean_entropy), draft, unchanged)

    def num_steps(self, num_open: int, num_blocks: int) -> int:
        """Bound a window by `steps`; see the base class."""
        del num_open, num_blocks
        return self.steps
