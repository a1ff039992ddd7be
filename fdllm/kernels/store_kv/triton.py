"""Rotary embedding and the write into the slot store in one pass: each number is read once and written once.

It stands in `fdllm.models.storing_attention`, where a stock attention module rotates queries and keys,
then calls the store's `update`. The compiler chooses it through `Denoiser.with_store_kv`.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from fdllm.kernels.dot import REALS
from fdllm.kernels.launch import Launch, power_of_two, strides


@triton.jit
def _move(
    source, target, cos, sin, s_h, s_d, t_h, t_d, c_d, head, num_heads,
    WIDTH: tl.constexpr, HALF: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Copy one row of some heads, the first 2 x HALF dims rotated."""
    inside = (head < num_heads)[:, None]
    p_source = source + head[:, None].to(tl.int64) * s_h  # [BH, 1]
    p_target = target + head[:, None].to(tl.int64) * t_h  # [BH, 1]
    if HALF > 0:
        half = tl.arange(0, BE)[None, :]
        live = half < HALF
        first = tl.load(p_source + half * s_d, mask=inside & live, other=0.0).to(REAL)  # [BH, BE]
        second = tl.load(p_source + (half + HALF) * s_d, mask=inside & live, other=0.0).to(REAL)
        c_first = tl.load(cos + half * c_d, mask=live, other=0.0).to(REAL)  # [1, BE]
        s_first = tl.load(sin + half * c_d, mask=live, other=0.0).to(REAL)
        c_second = tl.load(cos + (half + HALF) * c_d, mask=live, other=0.0).to(REAL)
        s_second = tl.load(sin + (half + HALF) * c_d, mask=live, other=0.0).to(REAL)
        kind = target.dtype.element_ty
        tl.store(p_target + half * t_d, (first * c_first - second * s_first).to(kind), mask=inside & live)
        tl.store(p_target + (half + HALF) * t_d, (second * c_second + first * s_second).to(kind), mask=inside & live)
    if 2 * HALF < WIDTH:
        rest = 2 * HALF + tl.arange(0, BD)[None, :]
        live = inside & (rest < WIDTH)
        tl.store(p_target + rest * t_d, tl.load(p_source + rest * s_d, mask=live, other=0.0), mask=live)


@triton.jit
def store_kv_kernel(
    q, k, v, cos, sin, slots, out, keys, values,
    q_b, q_h, q_r, q_d, k_b, k_g, k_r, k_d, v_b, v_g, v_r, v_d, c_b, c_r, c_d, i_b, i_r,
    o_b, o_h, o_r, o_d, ks_b, ks_g, ks_n, ks_d, vs_b, vs_g, vs_n, vs_d, num_heads, num_groups,
    WIDTH: tl.constexpr, HALF: tl.constexpr, BH: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Rotate and store one row; grid (R, B, tiles of query heads, then tiles of key heads)."""
    row, batch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    part, q_parts = tl.program_id(2), tl.cdiv(num_heads, BH)
    p_cos, p_sin = cos + batch * c_b + row * c_r, sin + batch * c_b + row * c_r
    if part < q_parts:
        head = part * BH + tl.arange(0, BH)
        _move(q + batch * q_b + row * q_r, out + batch * o_b + row * o_r, p_cos, p_sin, q_h, q_d, o_h, o_d, c_d,
              head, num_heads, WIDTH, HALF, BD, BE, REAL)  # fmt: skip
    else:
        head = (part - q_parts) * BH + tl.arange(0, BH)
        slot = tl.load(slots + batch * i_b + row * i_r)
        _move(k + batch * k_b + row * k_r, keys + batch * ks_b + slot * ks_n, p_cos, p_sin, k_g, k_d, ks_g, ks_d, c_d,
              head, num_groups, WIDTH, HALF, BD, BE, REAL)  # fmt: skip
        _move(v + batch * v_b + row * v_r, values + batch * vs_b + slot * vs_n, p_cos, p_sin, v_g, v_d, vs_g, vs_d, c_d,
              head, num_groups, WIDTH, 0, BD, BE, REAL)  # fmt: skip


def store_kv(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, slots: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Rotate queries and keys; write keys and values into their slots.

    Args:
        q: queries, float[B H R D], of any strides, as everything here.
        k: keys, float[B G R D].
        v: values, float[B G R D].
        cos: cosines, float[B R E] with even E <= D; the first E of D dims are rotated, the others kept.
        sin: sines, float[B R E], of the strides of `cos`.
        slots: the slot of each row, int64[B R]; of equal ones in a row of the batch, any may stay.
        keys: float[B G N+1 D], overwritten at the slots.
        values: float[B G N+1 D], overwritten at the slots.

    Returns:
        The rotated queries, float[B H R D], laid out as `q`.

    """
    out, launch = planned(q, k, v, cos, sin, slots, keys, values)
    launch.run()
    return out


def planned(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, slots: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Launch]:
    """Make the result's tensor and the launch that fills it and the store; arguments as in `store_kv`."""
    (batch, heads, rows, width), groups, rotary = q.shape, k.shape[1], cos.shape[-1]
    assert k.shape == v.shape == (batch, groups, rows, width) and keys.shape == values.shape
    assert cos.shape == sin.shape == (batch, rows, rotary) and rotary % 2 == 0 and rotary <= width
    assert cos.stride() == sin.stride() and slots.shape == (batch, rows)
    out = torch.empty_like(q)
    real = torch.promote_types(q.dtype, torch.float32)
    block = min(power_of_two(max(heads, groups)), max(2048 // power_of_two(width), 1))
    arguments = {
        **{"q": q, "k": k, "v": v, "cos": cos, "sin": sin, "slots": slots, "out": out, "keys": keys, "values": values},
        **strides(q, "q_b", "q_h", "q_r", "q_d"),
        **strides(k, "k_b", "k_g", "k_r", "k_d"),
        **strides(v, "v_b", "v_g", "v_r", "v_d"),
        **strides(cos, "c_b", "c_r", "c_d"),
        **strides(slots, "i_b", "i_r"),
        **strides(out, "o_b", "o_h", "o_r", "o_d"),
        **strides(keys, "ks_b", "ks_g", "ks_n", "ks_d"),
        **strides(values, "vs_b", "vs_g", "vs_n", "vs_d"),
        **{"num_heads": heads, "num_groups": groups, "WIDTH": width, "HALF": rotary // 2, "BH": block},
        **{"BD": power_of_two(width), "BE": power_of_two(max(rotary // 2, 1)), "REAL": REALS[real]},
    }
    grid = (rows, batch, -(-heads // block) + -(-groups // block))
    return out, Launch(store_kv_kernel, grid, arguments, warps=4, stages=1)


def specimens() -> Iterator[Launch]:
    """Give the launches to compile ahead of time: each dtype, partial rotation, an odd width."""
    forms = [(torch.bfloat16, 128, 128), (torch.float16, 128, 64), (torch.float32, 128, 128), (torch.bfloat16, 80, 80)]
    for dtype, width, rotary in forms:
        q, k, v = (torch.empty(1, 32, heads, width, dtype=dtype, device="meta").transpose(1, 2) for heads in (32, 8, 8))
        buffer = torch.empty(1, 8, 2049, width, dtype=dtype, device="meta")
        angle = torch.empty(1, 32, rotary, dtype=dtype, device="meta")
        slots = torch.empty(1, 32, dtype=torch.int64, device="meta")
        yield planned(q, k, v, angle, angle, slots, buffer, buffer)[1]
