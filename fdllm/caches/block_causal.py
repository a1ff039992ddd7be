"""Keep the K/V of finished blocks where later ones cannot change them: exact, with no forward to commit them.

Source: Arriola et al. 2025, block diffusion, arXiv:2503.09573 (block-causal K/V caching). The
published loops run a finished block once more to store its last tokens; here it is recomputed
together with the next block's first step, where it cannot see that block, so nothing changes but
the number of forwards. The prompt is computed with the first step as well.
"""

from typing import ClassVar, final

from fdllm.caches.base import CachePolicy, Rows, Step


@final
class BlockCausal(CachePolicy):
    """Recompute the model's block; with its first step also what was finished before."""

    exact: ClassVar[bool] = True
    patterns: ClassVar[tuple[str, ...]] = ("block-causal", "causal-prefix")

    def rows(self, step: Step) -> Rows:
        """Answer what is not final: the block around the window, and at first the block before it, or the prompt."""
        return Rows(step.unsettled)
