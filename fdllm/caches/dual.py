"""Keep the K/V of everything outside the block while it is decoded.

Source: Wu et al. 2025, Fast-dLLM, arXiv:2505.22618, DualCache; code at NVlabs/Fast-dLLM
24cc59e, llada/generate.py. Approximate: prefix and suffix are as they were when the block began.
"""

from typing import final

from fdllm.caches.base import CachePolicy, Rows, Step


@final
class Dual(CachePolicy):
    """Recompute all slots when a block begins, then the block alone."""

    def rows(self, step: Step) -> Rows:
        """Answer every slot at step 0, then `[start, end)`."""
        return Rows(range(step.length) if step.index == 0 else range(step.start, step.end))
