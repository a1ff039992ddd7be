"""Attention by fdllm's own Triton kernels: the store is read in place, visibility by ranges."""

from importlib.util import find_spec
from typing import final

import torch
from torch import Tensor

from fdllm.attention.base import AttentionBackend
from fdllm.visibility import Visibility


@final
class Triton(AttentionBackend):
    """Run on a CUDA device; elsewhere, slowly, under Triton's interpreter (TRITON_INTERPRET=1)."""

    def refusal(self, device: torch.device) -> str:
        """Want a CUDA device or the interpreter, and triton itself."""
        if find_spec("triton") is None:
            return "wants the package triton, which is not installed; pip install triton (Linux), or use 'sdpa'"
        from fdllm.kernels.dot import INTERPRETED

        if device.type == "cuda" or INTERPRETED:
            return ""
        return "wants a CUDA device; use 'sdpa', or set TRITON_INTERPRET=1 before the start to interpret it, slowly"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, visible: Visibility | None, scale: float) -> Tensor:
        """Attend; see the base class. A query that sees no key gives zeros."""
        from fdllm.kernels.attention.triton import attend

        return attend(q, k, v, visible, scale)
