"""Decide the response block by block, from left to right (semi-autoregressive decoding).

Source: Arriola et al. 2025, block diffusion, arXiv:2503.09573; Nie et al. 2025, LLaDA,
arXiv:2502.09992 (block_length). The first block is shorter where the prompt ends inside a block
of the model, the last one where the response does.
"""

from typing import final

from pydantic import Field

from fdllm.schedules.base import Schedule


@final
class Blocks(Schedule):
    """Windows of `block_length` slots."""

    block_length: int = Field(32, ge=1, description="slots per block")

    def windows(self, max_new_tokens: int, offset: int) -> tuple[range, ...]:
        """Cut `max_new_tokens` slots into blocks, the first one less the part the prompt fills."""
        size = self.block_length
        starts = range(-(offset % size), max_new_tokens, size)
        return tuple(range(max(a, 0), min(a + size, max_new_tokens)) for a in starts)
