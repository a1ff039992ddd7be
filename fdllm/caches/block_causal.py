"""Keep the K/V of finished blocks of a block-causal model: exact, with no forward to commit them.

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
    patterns: ClassVar[tuple[str, ...]] = ("block-causal",)

    def rows(self, step: Step) -> Rows:
        """Answer the block around the window, at its first step from the block before, or the prompt, on."""
        size = step.model_block
        begin = step.start // size * size
        end = min(begin + size, step.length)
        if step.index == 0 and step.block == 0:
            begin = 0
        elif step.index == 0 and begin == step.start:
            begin -= size
        return Rows(range(begin, end))
