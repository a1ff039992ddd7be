"""Commit every open slot whose confidence reaches a threshold.

Source: Wu et al. 2025, Fast-dLLM, arXiv:2505.22618; code at NVlabs/Fast-dLLM 24cc59e,
llada/generate.py, get_transfer_index. The comparison is >=, as there.
"""

from typing import ClassVar, final

from pydantic import Field

from fdllm.policies.base import UnmaskingPolicy
from fdllm.types import Mask, Probability


@final
class Threshold(UnmaskingPolicy):
    """Confidence-aware parallel decoding. Where nothing passes, the engine commits the best slot."""

    monotone: ClassVar[str] = "threshold"

    threshold: float = Field(0.9, ge=0, le=1, description="commit at or above this probability")

    def __call__(self, masked: Mask, confidence: Probability) -> Mask:
        """Choose the open slots at or above the threshold, bool[B W]."""
        return masked & (confidence >= self.threshold)
