"""Keep finished blocks exactly, and inside the model's block what lies outside the sub-block being decoded.

Source: Wu et al. 2025, Fast-dLLM v2, arXiv:2509.26328, hierarchical cache. Approximate inside the block
alone: its other sub-blocks are as they were when this one began. The published code computes the whole
block again as long as the first slot of a sub-block is open, since the row that predicts it lies outside;
here that row is computed together with the sub-block.
"""

from typing import ClassVar, final

from fdllm.caches.base import CachePolicy, Rows, Step


@final
class Hierarchical(CachePolicy):
    """Recompute the model's block when a sub-block (the window) begins, then the sub-block alone."""

    patterns: ClassVar[tuple[str, ...]] = ("block-causal",)

    def rows(self, step: Step) -> Rows:
        """Answer what is not final at step 0, then `[start, end)`."""
        return Rows(step.unsettled if step.index == 0 else range(step.start, step.end))
