"""The law of attention backends."""

from math import prod
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fdllm.attention.base import AttentionBackend
from fdllm.kernels.attention.reference import attend
from fdllm.testing.strategies import many
from fdllm.visibility import Visibility


@st.composite
def heads_and_keys(
    draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)
) -> tuple[Tensor, Tensor, Tensor, Visibility | None]:
    """Draw queries, keys, values and visibility: odd sizes, grouped heads, buffers as a store has them, any form.

    Keys that no query sees hold what an untouched store may hold: numbers of any size.
    """
    batch, rows, keys = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 33))
    heads, groups = draw(st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 3), (5, 1)]))
    width, dtype, seed = draw(st.sampled_from([4, 8, 20])), draw(st.sampled_from(dtypes)), draw(st.integers(0, 2**31))
    noise = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, rows, heads, width, generator=noise).to(dtype).transpose(1, 2)
    slots = keys + draw(st.integers(0, 2))
    k, v = torch.randn(2, batch, groups, slots, width, generator=noise).to(dtype)[..., :keys, :]
    if draw(st.booleans()):
        k, v = k.mT.contiguous().mT, v.transpose(1, 2).contiguous().transpose(1, 2)
    return q, k, v, draw(visibilities(batch, rows, keys))


@st.composite
def visibilities(draw: st.DrawFn, batch: int, rows: int, keys: int) -> Visibility | None:
    """Draw what is visible: everything, ragged lengths, blocks, any ranges, chosen slots; some queries see nothing."""
    form = draw(st.sampled_from(["all", "ragged", "blocks", "ranges", "chosen"]))

    def bounds(shape: tuple[int, int]) -> Tensor:
        size = prod(shape)
        drawn = draw(st.lists(st.integers(0, keys), min_size=size, max_size=size))
        return torch.tensor(drawn, dtype=torch.int32).reshape(shape)

    lengths, zeros = bounds((batch, 1)), torch.zeros(batch, 1, dtype=torch.int32)
    if form == "all":
        return None
    if form == "ragged":
        return Visibility(zeros, lengths, keys)
    if form == "blocks":
        size = draw(st.integers(1, 8))
        ends = (torch.arange(rows, dtype=torch.int32) // size + 1) * size
        return Visibility(zeros, ends.minimum(lengths), keys)
    starts, ends = bounds((batch, rows)), bounds((batch, rows))
    chosen = bounds((batch, keys)) > keys // 3 if form == "chosen" else None
    return Visibility(starts, ends, keys, chosen)


def check_attention(backend: AttentionBackend) -> None:
    """Compare a backend with softmax attention in float64, and hold that its inputs and hidden keys do not matter."""

    @many
    @given(heads_and_keys())
    def equal(drawn: tuple[Tensor, Tensor, Tensor, Visibility | None]) -> None:
        q, k, v, visible = drawn
        given_k, given_v = k.clone(), v.clone()
        got = backend(q, k, v, visible, q.shape[-1] ** -0.5)
        assert got.shape == q.shape and got.dtype == q.dtype, f"{backend!r}: wanted {q.dtype} of the queries' shape"
        assert got.isfinite().all(), f"{backend!r}: a row is not finite"
        assert torch.equal(k, given_k) and torch.equal(v, given_v), f"{backend!r}: keys or values were changed"
        error, allowed = errors(got, q, k, v, visible)
        assert error <= allowed, f"{backend!r}: differs from softmax attention"

    equal()


def errors(got: Tensor, q: Tensor, k: Tensor, v: Tensor, visible: Visibility | None) -> tuple[float, float]:
    """Measure a result against float64 over the queries that see a key, and say what is allowed.

    Allowed is twice what attention written out in the dtype of the inputs is off by, and a few
    roundings of the largest number.
    """
    scale = q.shape[-1] ** -0.5
    sees = torch.ones(*got.shape[:3], 1, dtype=torch.bool) if visible is None else visible.mask.any(-1, keepdim=True)
    exact = attend(q.double(), k.double(), v.double(), visible, scale)
    coarse = attend(q, k, v, visible, scale).double()

    def worst(x: Any) -> float:
        return float(x.masked_fill(~sees, 0).abs().max())

    return worst(got.double() - exact), 2 * worst(coarse - exact) + 4 * torch.finfo(got.dtype).eps * worst(exact)
