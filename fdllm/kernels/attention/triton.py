"""Attention of a window's queries to the slot store in place: nothing is copied, repeated or masked in memory.

The queries of all heads of a group are the rows of one tile, so a key is read once for the whole
group. Each row has a range of visible keys; tiles of keys outside the ranges of a tile of rows are
not read, those inside all of them need no comparison. Softmax is online, in float32 (float64 for
float64). In the split form programs share the keys of a tile and a second kernel joins their parts.

Source: Dao 2023, FlashAttention-2, arXiv:2307.08691, for the tiled form; Flash-Decoding
(Dao, Haziza, Massa, Sizov 2023) for the split one.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fdllm.kernels.attention.tiling import Tiling, tiling
from fdllm.kernels.dot import REALS, dot
from fdllm.kernels.launch import Launch, strides
from fdllm.visibility import Visibility

LOG2_E = math.log2(math.e)


@triton.jit
def _fold(
    acc, total, top, b_q, start, end, p_k, p_v, p_chosen, k_n, v_n, c_n, in_width, at, low, last,
    SCALE: tl.constexpr, CHECKED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Fold one tile of keys into the running softmax: sum of weighted values, sum of weights, largest score."""
    key = at + tl.arange(0, BN)
    live = tl.full([BN], True, tl.int1)
    if CHECKED:
        live = (key >= low) & (key < last)
        if p_chosen is not None:
            live &= tl.load(p_chosen + key * c_n, mask=live, other=0) != 0
    b_k = tl.load(p_k + key[None, :] * k_n, mask=in_width[:, None] & live[None, :], other=0.0)  # [BD, BN]
    scores = dot(b_q, b_k, tl.zeros([BM, BN], REAL), REAL) * SCALE  # [BM, BN]
    if CHECKED:
        seen = live[None, :] & (key[None, :] >= start[:, None]) & (key[None, :] < end[:, None])
        scores = tl.where(seen, scores, -float("inf"))
    peak = tl.maximum(top, tl.max(scores, 1))
    # a row that has seen nothing yet stays at zero
    base = tl.where(peak == -float("inf"), 0.0, peak)
    weights = tl.exp2(scores - base[:, None])
    decay = tl.exp2(top - base)
    b_v = tl.load(p_v + key[:, None] * v_n, mask=live[:, None] & in_width[None, :], other=0.0)  # [BN, BD]
    acc = dot(weights.to(b_v.dtype), b_v, acc * decay[:, None], REAL)
    return acc, total * decay + tl.sum(weights, 1), peak


@triton.jit
def attend_kernel(
    q, k, v, starts, ends, chosen, out, mass,
    q_b, q_h, q_r, q_d, k_b, k_g, k_n, k_d, v_b, v_g, v_n, v_d,
    s_b, s_r, e_b, e_r, c_b, c_n, num_rows, num_keys, num_groups, num_out,
    GROUP: tl.constexpr, WIDTH: tl.constexpr, SCALE: tl.constexpr, SPLITS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Attend from one tile of rows to one share of the keys; grid (tiles of rows, splits, B x G)."""
    split = tl.program_id(1).to(tl.int64)
    pair = tl.program_id(2).to(tl.int64)
    batch, group = pair // num_groups, pair % num_groups
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    query, head = row // GROUP, group * GROUP + row % GROUP
    inside = query < num_rows
    width = tl.arange(0, BD)
    in_width = width < WIDTH
    if BD == WIDTH:
        in_width = tl.full([BD], True, tl.int1)

    start = tl.zeros([BM], tl.int32)
    end = start + num_keys
    if starts is not None:
        start = tl.load(starts + batch * s_b + query * s_r, mask=inside, other=0)
        end = tl.load(ends + batch * e_b + query * e_r, mask=inside, other=0)
    # what some row of the tile sees is [low, last), shared in whole tiles of keys from `first` on
    some = inside & (start < end)
    low = tl.min(tl.where(some, start, num_keys))
    first = low // BN * BN
    last = tl.max(tl.where(some, end, 0))
    share = tl.cdiv(tl.cdiv(tl.maximum(last - first, 0), BN), SPLITS) * BN
    first += share * tl.program_id(1)
    last = tl.minimum(first + share, last)
    # what all of them see, in whole tiles, is [left, right): no comparisons there
    left = tl.cdiv(tl.maximum(tl.max(tl.where(inside, start, 0)), first), BN) * BN
    right = tl.minimum(tl.min(tl.where(inside, end, num_keys)), last) // BN * BN
    if right <= left or chosen is not None:
        left = first
        right = first

    p_q = q + batch * q_b + head[:, None] * q_h + query[:, None].to(tl.int64) * q_r + width[None, :] * q_d
    b_q = tl.load(p_q, mask=inside[:, None] & in_width[None, :], other=0.0)  # [BM, BD]
    p_k = k + batch * k_b + group * k_g + width[:, None] * k_d
    p_v = v + batch * v_b + group * v_g + width[None, :] * v_d
    p_chosen = chosen
    if chosen is not None:
        p_chosen += batch * c_b
    acc = tl.zeros([BM, BD], REAL)
    total = tl.zeros([BM], REAL)
    top = tl.full([BM], -float("inf"), REAL)
    for at in range(left, right, BN):
        acc, total, top = _fold(acc, total, top, b_q, start, end, p_k, p_v, p_chosen, k_n, v_n, c_n, in_width, at,
                                low, last, SCALE, False, BM, BN, REAL)  # fmt: skip
    for edge in range(first, last - (right - left), BN):
        at = tl.where(edge < left, edge, edge + right - left)
        acc, total, top = _fold(acc, total, top, b_q, start, end, p_k, p_v, p_chosen, k_n, v_n, c_n, in_width, at,
                                low, last, SCALE, True, BM, BN, REAL)  # fmt: skip

    total = tl.where(total == 0, 1.0, total)
    acc = acc / total[:, None]
    place = split * num_out + (batch * num_rows + query) * (num_groups * GROUP) + head
    p_out = out + place[:, None] * WIDTH + width[None, :]
    tl.store(p_out, acc.to(out.dtype.element_ty), mask=inside[:, None] & in_width[None, :])
    if SPLITS > 1:
        # -inf where the row sees no key of the share
        tl.store(mass + place, top + tl.log2(total), mask=inside)


@triton.jit
def combine_kernel(
    parts, mass, out, num_out, WIDTH: tl.constexpr, SPLITS: tl.constexpr, BD: tl.constexpr
):  # fmt: skip
    """Join what the splits found for one row, weighted by their sums; grid (B x R x H)."""
    place = tl.arange(0, SPLITS).to(tl.int64) * num_out + tl.program_id(0)
    width = tl.arange(0, BD)
    in_width = width < WIDTH
    b_mass = tl.load(mass + place)  # [S]
    top = tl.max(b_mass, 0)
    weights = tl.exp2(b_mass - tl.where(top == -float("inf"), 0.0, top))
    b_parts = tl.load(parts + place[:, None] * WIDTH + width[None, :], mask=in_width[None, :], other=0.0)  # [S, BD]
    total = tl.sum(weights, 0)
    b_out = tl.sum(weights[:, None] * b_parts, 0) / tl.where(total == 0, 1.0, total)
    p_out = out + tl.program_id(0).to(tl.int64) * WIDTH + width
    tl.store(p_out, b_out.to(out.dtype.element_ty), mask=in_width)


def attend(
    q: Tensor, k: Tensor, v: Tensor, visible: Visibility | None, scale: float, cut: Tiling | None = None
) -> Tensor:
    """Attend from every query to the keys it sees.

    Args:
        q: queries, float[B H R D], of any strides.
        k: keys, float[B G N D], of any strides; G divides H.
        v: values, float[B G N D], of any strides.
        visible: the keys each query sees; None where that is every key.
        scale: factor on the products before the softmax.
        cut: how to cut the work; chosen by shapes unless given.

    Returns:
        float[B H R D], a view of contiguous [B R H D]; zeros for a query that sees no key. What stands in
        keys and values outside the ranges and chosen slots is not read, be it NaN.

    """
    out, launches = planned(q, k, v, visible, scale, cut or chosen_cut(q, k, _processors(q.device)))
    for launch in launches:
        launch.run()
    return out


def chosen_cut(q: Tensor, k: Tensor, processors: int) -> Tiling:
    """Choose the cut by shapes."""
    batch, heads, rows, width = q.shape
    groups = k.shape[1]
    return tiling(batch * groups, rows * heads // groups, k.shape[2], width, q.itemsize, processors)


def planned(
    q: Tensor, k: Tensor, v: Tensor, visible: Visibility | None, scale: float, cut: Tiling
) -> tuple[Tensor, list[Launch]]:
    """Make the result's tensor and the launches that fill it; arguments as in `attend`."""
    (batch, heads, rows, width), (groups, keys) = q.shape, k.shape[1:3]
    assert k.shape == v.shape == (batch, groups, keys, width) and heads % groups == 0 and q.dtype == k.dtype == v.dtype
    real = torch.promote_types(q.dtype, torch.float32)
    out = q.new_empty(batch, rows, heads, width)
    split = cut.splits > 1
    parts = out.new_empty(cut.splits, *out.shape, dtype=real) if split else out
    mass = out.new_empty(cut.splits, *out.shape[:-1], dtype=real) if split else None
    common = {"num_out": batch * rows * heads, "WIDTH": width, "SPLITS": cut.splits, "BD": cut.block_width}
    arguments = {
        **{"q": q, "k": k, "v": v, "out": parts, "mass": mass, **_seen(visible), **common},
        **strides(q, "q_b", "q_h", "q_r", "q_d"),
        **strides(k, "k_b", "k_g", "k_n", "k_d"),
        **strides(v, "v_b", "v_g", "v_n", "v_d"),
        **{"num_rows": rows, "num_keys": keys, "num_groups": groups, "GROUP": heads // groups},
        **{"SCALE": scale * LOG2_E, "BM": cut.block_rows, "BN": cut.block_keys, "REAL": REALS[real]},
    }
    grid = (-(-rows * heads // groups // cut.block_rows), cut.splits, batch * groups)
    launches = [Launch(attend_kernel, grid, arguments, cut.warps, cut.stages)]
    if split:
        joined = {"parts": parts, "mass": mass, "out": out, **common}
        launches.append(Launch(combine_kernel, (batch * rows * heads,), joined, 1, 1))
    return out.transpose(1, 2), launches


def _seen(visible: Visibility | None) -> dict[str, Any]:
    """Give the ranges and the chosen slots as arguments; one range for all queries of a row has stride 0."""
    names = ("s_b", "s_r", "e_b", "e_r", "c_b", "c_n")
    if visible is None:
        return {"starts": None, "ends": None, "chosen": None, **dict.fromkeys(names, 0)}
    starts, ends, chosen = visible.starts, visible.ends, visible.chosen
    assert starts.dtype == ends.dtype == torch.int32
    pitch = [step for x in (starts, ends) for step in (x.stride(0), x.stride(1) if x.shape[1] > 1 else 0)]
    pitch += (0, 0) if chosen is None else chosen.stride()
    seen = {"starts": starts, "ends": ends, "chosen": None if chosen is None else chosen.view(torch.uint8)}
    return {**seen, **dict(zip(names, pitch, strict=True))}


def _processors(device: torch.device) -> int:
    """Programs the device runs at a time; 1 on a CPU, where the interpreter runs them in turn."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def specimens() -> Iterator[Launch]:
    """Give the launches to compile ahead of time: windows and long prompts in each dtype, and odd forms."""
    half, single = torch.bfloat16, torch.float32
    # rows, dtype, head dim, heads, key heads
    forms = [(32, half, 128, 32, 8), (1024, half, 128, 32, 8), (32, torch.float16, 128, 32, 32), (4, half, 128, 32, 8)]
    forms += [(1024, half, 64, 32, 32), (32, half, 80, 32, 4), (1024, half, 256, 8, 4), (32, half, 512, 8, 1)]
    forms += [
        (32, single, 128, 32, 8),
        (1024, single, 64, 32, 32),
        (32, single, 256, 8, 4),
        (1024, torch.float16, 128, 32, 8),
    ]
    for rows, dtype, width, heads, groups in forms:
        q = torch.empty(1, heads, rows, width, dtype=dtype, device="meta")
        k = torch.empty(1, groups, 8192, width, dtype=dtype, device="meta")
        bound = torch.empty(1, rows, dtype=torch.int32, device="meta")
        chosen = torch.empty(1, 8192, dtype=torch.bool, device="meta")
        visible = Visibility(bound, bound, 8192, chosen if rows == 4 else None)
        yield from planned(q, k, k, None if width == 64 else visible, width**-0.5, chosen_cut(q, k, 132))[1]
