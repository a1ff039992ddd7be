"""Attention by torch's scaled_dot_product_attention, grouped heads without copies."""

from typing import final

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fdllm.attention.base import AttentionBackend
from fdllm.visibility import Visibility


@final
class Sdpa(AttentionBackend):
    """Let torch choose its fused attention."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, visible: Visibility | None, scale: float) -> Tensor:
        """Attend; see the base class."""
        grouped = q.shape[1] != k.shape[1]
        mask = None if visible is None else visible.mask
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=grouped)
