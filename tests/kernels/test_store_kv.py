"""The rotation and the write into the store, under the interpreter, against plain torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from fdllm.kernels.store_kv import reference
from fdllm.kernels.store_kv.triton import planned
from fdllm.testing.strategies import many

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@st.composite
def states(draw):
    """Queries, keys and values as projections give them, angles, slots, and a store that holds something."""
    batch, rows, slots = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(6, 9))
    heads, groups = draw(st.sampled_from([(1, 1), (4, 2), (5, 1), (6, 3)]))
    width, dtype = draw(st.sampled_from([2, 8, 20, 33])), draw(st.sampled_from(DTYPES))
    rotary = 2 * draw(st.integers(0, width // 2))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shapes = [(batch, rows, count, width) for count in (heads, groups, groups)]
    q, k, v = (torch.randn(shape, generator=noise).to(dtype).transpose(1, 2) for shape in shapes)
    angles = torch.rand(batch, rows, rotary, generator=noise) * 100
    at = torch.stack([torch.randperm(slots + 1, generator=noise)[:rows] for _ in range(batch)])
    keys, values = torch.randn(2, batch, groups, slots + 1, width, generator=noise).to(dtype)
    return q, k, v, angles.cos().to(dtype), angles.sin().to(dtype), at, keys, values


@many
@given(states())
def test_against_plain_torch(drawn):
    *given_states, keys, values = drawn
    exact_keys, exact_values = keys.double(), values.double()
    exact = reference.store_kv(
        *(x.double() if x.is_floating_point() else x for x in given_states), exact_keys, exact_values
    )
    coarse_keys, coarse_values = keys.clone(), values.clone()
    coarse = reference.store_kv(*given_states, coarse_keys, coarse_values)
    out, launch = planned(*given_states, keys, values)
    out.fill_(torch.nan)
    launch.run()
    for got, plain, true in ((out, coarse, exact), (keys, coarse_keys, exact_keys)):
        allowed = 2 * (plain.double() - true).abs().max() + 2 * torch.finfo(got.dtype).eps * true.abs().max()
        assert (got.double() - true).abs().max() <= allowed
    assert torch.equal(values, coarse_values)


def test_the_rest_of_the_store_is_left_alone():
    q, k, v = torch.randn(3, 1, 2, 2, 8).unbind(0)
    keys, values = torch.full((2, 1, 2, 6, 8), torch.nan)
    angles = torch.rand(1, 2, 8)
    planned(q, k, v, angles.cos(), angles.sin(), torch.tensor([[4, 1]]), keys, values)[1].run()
    for buffer in (keys, values):
        assert buffer[:, :, [1, 4]].isfinite().all()
        assert buffer[:, :, [0, 2, 3, 5]].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_reference_is_the_rotation_of_transformers(dtype):
    q, k, v = torch.randn(3, 2, 4, 5, 8).to(dtype).unbind(0)
    angles = torch.rand(2, 5, 4).repeat(1, 1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    keys, values = torch.zeros(2, 2, 4, 6, 8, dtype=dtype)
    slots = torch.arange(5).expand(2, 5)
    rotated, rotated_keys = apply_rotary_pos_emb(q, k, cos, sin)
    allowed = {"rtol": 0, "atol": 4 * torch.finfo(dtype).eps * float(q.abs().max())}
    torch.testing.assert_close(reference.store_kv(q, k, v, cos, sin, slots, keys, values), rotated, **allowed)
    torch.testing.assert_close(keys[:, :, :5], rotated_keys, **allowed)
    assert torch.equal(values[:, :, :5], v)
