"""Commit a fixed number of the best open slots each step.

Source: Nie et al. 2025, LLaDA, arXiv:2502.09992, get_num_transfer_tokens (`spacing = "even"`);
Ye et al. 2025, Dream, arXiv:2508.15487, generation_utils.py (`spacing = "timesteps"`, orders
maskgit_plus = confidence, topk_margin = margin, entropy). A step that is due nothing is not run.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, final

import torch
from pydantic import Field, model_validator

from fdllm.policies.base import UnmaskingPolicy
from fdllm.ranking import best
from fdllm.types import Count, Entropy, Mask, Probability, Uniform


@final
class TopK(UnmaskingPolicy):
    """The fixed schedule: `k` slots a step, or `steps` steps in all, spread over the blocks."""

    progresses: ClassVar[bool] = True
    punctual: ClassVar[bool] = True

    k: int = Field(1, ge=1, description="slots committed per step; give k or steps, not both")
    steps: int = Field(0, ge=0, description="steps for the whole response, a multiple of its blocks; 0: use k")
    spacing: Literal["even", "timesteps"] = Field(
        "even", description="how steps share a block: even (LLaDA, remainder first) or timesteps (Dream)"
    )
    eps: float = Field(1e-3, gt=0, lt=1, description="last timestep of spacing = timesteps; t runs from 1 to eps")
    order: Literal["confidence", "margin", "entropy", "random"] = Field(
        "confidence", description="which open slots are best; entropy takes the lowest"
    )

    @model_validator(mode="after")
    def _one_plan(self) -> "TopK":
        given = self.model_fields_set
        if self.steps and "k" in given:
            raise ValueError("k and steps exclude each other: k is slots per step, steps is steps in all; drop one")
        if not self.steps and (unused := given & {"spacing", "eps"}):
            raise ValueError(f"{' and '.join(sorted(unused))} shape the steps of a block: give steps as well")
        return self

    def __call__(self, masked: Mask, confidence: Probability, quota: Count) -> Mask:
        """Choose the `quota` open slots of highest confidence, bool[B W]; ties go left."""
        return best(masked, confidence, quota)

    def by_margin(self, masked: Mask, margin: Probability, quota: Count) -> Mask:
        """Choose the `quota` open slots of largest margin, bool[B W]; ties go left."""
        return best(masked, margin, quota)

    def by_entropy(self, masked: Mask, entropy: Entropy, quota: Count) -> Mask:
        """Choose the `quota` open slots of lowest entropy, bool[B W]; ties go left."""
        return best(masked, -entropy, quota)

    def by_chance(self, masked: Mask, uniform: Uniform, quota: Count) -> Mask:
        """Choose `quota` open slots at random, bool[B W]."""
        return best(masked, uniform, quota)

    def rule(self) -> Callable[..., Any]:
        """Return the method for `order`: it alone says which signal is computed."""
        return {
            "confidence": self.__call__,
            "margin": self.by_margin,
            "entropy": self.by_entropy,
            "random": self.by_chance,
        }[self.order]

    def quotas(self, num_open: int, num_blocks: int) -> tuple[int, ...]:
        """Plan a block of `num_open` open slots; see the base class."""
        if not self.steps:
            full, rest = divmod(num_open, self.k)
            return (self.k,) * full + (rest,) * (rest > 0)
        steps, left_over = divmod(self.steps, num_blocks)
        if left_over:
            raise ValueError(
                f"policy.steps: {self.steps} steps do not spread over {num_blocks} blocks; give a multiple of "
                f"{num_blocks}, or change block_length"
            )
        return self._even(num_open, steps) if self.spacing == "even" else self._timesteps(num_open, steps)

    def _even(self, num_open: int, steps: int) -> tuple[int, ...]:
        base, rest = divmod(num_open, steps)
        return tuple(base + (i < rest) for i in range(steps))

    def _timesteps(self, num_open: int, steps: int) -> tuple[int, ...]:
        # float32 as in the published code: trunc of a product near an integer depends on it
        times = torch.linspace(1, self.eps, steps + 1, dtype=torch.float32)
        plan, left = [], num_open
        for i in range(steps):
            share = torch.tensor(left, dtype=torch.float32) * (1 - times[i + 1] / times[i])
            plan.append(left if i == steps - 1 else int(share))
            left -= plan[-1]
        return tuple(plan)
