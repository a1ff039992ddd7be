"""Attention written out: products, softmax in float32, weighted sum."""

from typing import final

from torch import Tensor, finfo

from fdllm.attention.base import AttentionBackend
from fdllm.visibility import Visibility


@final
class Eager(AttentionBackend):
    """The plain form, for reading and for checking the others."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, visible: Visibility | None, scale: float) -> Tensor:
        """Attend; see the base class."""
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = (q @ k.mT) * scale
        if visible is not None:
            scores = scores.masked_fill(~visible.mask, finfo(scores.dtype).min)
        upcast = scores.float() if scores.dtype.itemsize < 4 else scores
        return upcast.softmax(-1).to(q.dtype) @ v
