"""Keep the K/V of prompt and finished blocks while a block is decoded.

Source: Wu et al. 2025, Fast-dLLM, arXiv:2505.22618, PrefixCache; code at NVlabs/Fast-dLLM
24cc59e, llada/generate.py. Approximate: the prefix is as it was when the block began.
"""

from typing import final

from fdllm.caches.base import CachePolicy, Rows, Step


@final
class Prefix(CachePolicy):
    """Recompute all slots when a block begins, then the block and everything after it."""

    def rows(self, step: Step) -> Rows:
        """Answer every slot at step 0, then `[start, length)`."""
        return Rows(range(0 if step.index == 0 else step.start, step.length))
