"""The law of attention backends."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fdllm.attention.base import AttentionBackend
from fdllm.testing.strategies import many


def check_attention(backend: AttentionBackend) -> None:
    """Compare a backend with softmax attention in float64 over odd sizes, grouped heads and hidden keys."""

    @many
    @given(
        st.integers(1, 3),
        st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 3)]),
        st.integers(1, 9),
        st.integers(1, 33),
        st.sampled_from([4, 8, 20]),
        st.sampled_from([torch.float32, torch.bfloat16]),
        st.booleans(),
    )
    def equal(
        batch: int, heads: tuple[int, int], rows: int, slots: int, width: int, dtype: torch.dtype, hide: bool
    ) -> None:
        noise = torch.Generator().manual_seed(batch * 1009 + rows * 31 + slots)
        q, k, v = (
            torch.randn(batch, h, n, width, generator=noise).to(dtype)
            for h, n in ((heads[0], rows), (heads[1], slots), (heads[1], slots))
        )
        lengths = torch.randint(1, slots + 1, (batch,), generator=noise)
        seen = (torch.arange(slots) < lengths[:, None])[:, None, None, :] if hide else None
        scale = width**-0.5
        got = backend(q, k, v, seen, scale).double()
        exact = _plain_attention(q.double(), k.double(), v.double(), seen, scale)
        coarse = _plain_attention(q, k, v, seen, scale).double()
        allowed = 2 * (coarse - exact).abs().max() + 4 * torch.finfo(dtype).eps * exact.abs().max()
        assert (got - exact).abs().max() <= allowed, f"{backend!r}: differs from softmax attention"

    equal()


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, scale: float) -> Tensor:
    group = q.shape[1] // k.shape[1]
    scores = torch.einsum("bhrd,bhnd->bhrn", q, k.repeat_interleave(group, 1)) * scale
    scores = scores if seen is None else scores.masked_fill(~seen, -torch.inf)
    return torch.einsum("bhrn,bhnd->bhrd", scores.softmax(-1), v.repeat_interleave(group, 1))
