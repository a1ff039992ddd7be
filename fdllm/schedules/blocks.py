"""Decide the response block by block, from left to right (semi-autoregressive decoding).

Source: Arriola et al. 2025, block diffusion, arXiv:2503.09573; Nie et al. 2025, LLaDA,
arXiv:2502.09992 (block_length). A last block may be shorter; a block as long as the response
makes it one window.
"""

from typing import final

from pydantic import Field

from fdllm.schedules.base import Schedule


@final
class Blocks(Schedule):
    """Windows of `block_length` slots."""

    block_length: int = Field(32, ge=1, description="slots per block")

    def windows(self, max_new_tokens: int) -> tuple[range, ...]:
        """Cut `max_new_tokens` slots into blocks."""
        size = self.block_length
        return tuple(range(a, min(a + size, max_new_tokens)) for a in range(0, max_new_tokens, size))
