"""Recompute everything every k-th step of a block, and the block alone in between.

Source: Wu et al. 2025, Fast-dLLM, arXiv:2505.22618, appendix C.1 (LLaDA-V, refresh interval).
Steps are counted within a block, so a row's refreshes do not depend on its batch; with one
long block this is the paper's rule. Interval 1 recomputes everything always.
"""

from typing import final

from pydantic import Field

from fdllm.caches.base import CachePolicy, Rows, Step


@final
class RefreshInterval(CachePolicy):
    """Bound how long anything outside the block stays as stored: at most `interval` steps."""

    interval: int = Field(8, ge=1, description="steps from one full recomputation to the next")

    def rows(self, step: Step) -> Rows:
        """Answer every slot at steps 0, interval, 2 interval ... of the block, else `[start, end)`."""
        return Rows(range(step.length) if step.index % self.interval == 0 else range(step.start, step.end))
