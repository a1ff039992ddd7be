"""Recompute everything at every step; keep nothing."""

from typing import ClassVar, final

from fdllm.caches.base import CachePolicy, Rows, Step


@final
class NoCache(CachePolicy):
    """The uncached baseline: exact for every model and every policy."""

    stores: ClassVar[bool] = False
    patterns: ClassVar[tuple[str, ...]] = ("full", "block-causal", "causal-prefix")

    def rows(self, step: Step) -> Rows:
        """Answer every slot."""
        return Rows(range(step.length))
