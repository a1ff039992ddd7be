"""Rotate, then write, in plain torch: two steps as transformers' backbones and the slot store take them.

Source: Su et al. 2021, RoFormer, arXiv:2104.09864; the half-split form of transformers' Llama, Qwen
and GLM-4-MoE classes (`rotate_half`). The interleaved form of GPT-J and Cohere is another.
"""

import torch
from torch import Tensor


def store_kv(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, slots: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Rotate queries and keys; write keys and values into their slots.

    Args:
        q: queries, float[B H R D].
        k: keys, float[B G R D].
        v: values, float[B G R D].
        cos: cosines, float[B R E] with even E <= D; the first E of D dims are rotated, the others kept.
        sin: sines, float[B R E].
        slots: the slot of each row, int64[B R]; of equal ones in a row of the batch, any may stay.
        keys: float[B G N+1 D], overwritten at the slots.
        values: float[B G N+1 D], overwritten at the slots.

    Returns:
        The rotated queries, float[B H R D].

    """
    at = slots[:, None, :, None]
    keys.scatter_(2, at.expand_as(k), _rotated(k, cos, sin))
    values.scatter_(2, at.expand_as(v), v)
    return _rotated(q, cos, sin)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first E dims as pairs (i, i + E / 2), computed in float32 at least and rounded once."""
    rotary = cos.shape[-1]
    real = torch.promote_types(x.dtype, torch.float32)
    turned, kept = x[..., :rotary].to(real), x[..., rotary:]
    first, second = turned.chunk(2, -1)
    out = turned * cos[:, None].to(real) + torch.cat([-second, first], -1) * sin[:, None].to(real)
    return torch.cat([out.to(x.dtype), kept], -1)
