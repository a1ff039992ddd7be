"""The attention kernel under the interpreter, against float64; how its work is cut; decoding with it."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import ClassVar, final

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fdllm
from fdllm.attention.base import AttentionBackend
from fdllm.caches.base import CachePolicy, Rows
from fdllm.compiler import UnsoundError
from fdllm.kernels.attention.tiling import MAX_SPLITS, MIN_SPLIT_KEYS, Tiling, tiling
from fdllm.kernels.attention.triton import attend, planned
from fdllm.testing import random_model
from fdllm.testing.attention import errors, heads_and_keys
from fdllm.testing.strategies import few, many

CUTS = [Tiling(16, 16, 32, splits, 4, 1) for splits in (1, 2, 4)] + [Tiling(32, 32, 32, 2, 4, 1)]
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@many
@given(heads_and_keys(DTYPES), st.sampled_from(CUTS))
def test_every_cut_against_float64(drawn, cut):
    q, k, v, visible = drawn
    out, launches = planned(q, k, v, visible, q.shape[-1] ** -0.5, cut)
    for launch in launches:
        # memory as it may be found: what is not written shows
        for name in ("out", "mass", "parts"):
            if launch.arguments.get(name) is not None:
                launch.arguments[name].fill_(torch.nan)
    for launch in launches:
        launch.run()
    error, allowed = errors(out, q, k, v, visible)
    assert error <= allowed
    if visible is not None:
        blind = ~visible.mask.any(-1).squeeze(1).expand(q.shape[0], q.shape[2])
        assert not out.transpose(1, 2)[blind].any()


@few
@given(heads_and_keys(), st.sampled_from(CUTS))
def test_what_nobody_sees_is_not_read(drawn, cut):
    q, k, v, visible = drawn
    if visible is None:
        k, v = poisoned(k, v, torch.zeros(k.shape[0], k.shape[2], dtype=torch.bool))
        assert attend(q, k, v, None, 1.0, cut).isfinite().all()
        return
    # a tile of queries reads the chosen slots between the first and the last of its ranges
    seen = replace(visible, chosen=None).mask.any(-2).squeeze(1)
    between = seen.cummax(-1).values & seen.flip(-1).cummax(-1).values.flip(-1)
    hidden = ~between if visible.chosen is None else ~between | ~visible.chosen
    clean = attend(q, k, v, visible, 1.0, cut)
    assert torch.equal(attend(q, *poisoned(k, v, hidden), visible, 1.0, cut), clean)


def poisoned(k, v, hidden):
    """Keys and values with NaN in the hidden slots, and in the scratch slot behind the last."""
    padded = torch.nn.functional.pad(hidden, (0, 1), value=True)[:, None, :, None]
    k, v = (torch.nn.functional.pad(x, (0, 0, 0, 1)).masked_fill(padded, torch.nan) for x in (k, v))
    return k[:, :, :-1], v[:, :, :-1]


@many
@given(
    st.integers(1, 512), st.integers(1, 4096), st.integers(1, 8192), st.integers(1, 512),
    st.sampled_from([2, 4, 8]), st.sampled_from([1, 108, 132]),
)  # fmt: skip
def test_a_cut_is_legal(pairs, rows, keys, width, itemsize, processors):
    cut = tiling(pairs, rows, keys, width, itemsize, processors)
    assert all(size >= 16 and size & (size - 1) == 0 for size in (cut.block_rows, cut.block_keys, cut.block_width))
    assert cut.block_width >= width and cut.splits & (cut.splits - 1) == 0 and cut.splits <= MAX_SPLITS
    assert cut.splits == 1 or keys >= cut.splits * MIN_SPLIT_KEYS
    # no more splits than keep the processors busy
    assert cut.splits == 1 or pairs * -(-rows // cut.block_rows) * cut.splits < 2 * processors
    assert cut == tiling(pairs, rows, keys, width, itemsize, processors)


@pytest.mark.parametrize(
    ("pairs", "rows", "keys", "splits"),
    [(8, 128, 1280, 8), (32, 32, 1280, 8), (32, 32, 200, 1), (8, 4096, 1280, 1), (256, 128, 1280, 1), (1, 4, 8192, 32)],
    ids=["a window", "a head of its own", "few keys", "a long prompt", "a large batch", "one query"],
)
def test_a_window_is_split_and_a_prompt_is_tiled(pairs, rows, keys, splits):
    assert tiling(pairs, rows, keys, 128, 2, 132).splits == splits


@final
class Shows(CachePolicy):
    """The dual rule for a model that is shown some slots only, as one range or one by one."""

    patterns: ClassVar = ("full", "block-causal")
    one_by_one: bool

    def rows(self, step) -> Rows:
        compute = range(0 if step.index == 0 else step.start, step.length if step.index == 0 else step.end)
        return Rows(compute, tuple(range(1, step.end, 2)) if self.one_by_one else range(1, step.end))


PROMPTS = [[3, 1, 4, 1, 5, 9, 2], [6], [5, 3, 5]]
CACHES = [
    "none",
    "prefix",
    "dual",
    {"name": "refresh-interval", "interval": 2},
    Shows(one_by_one=False),
    Shows(one_by_one=True),
]


@pytest.mark.parametrize("cache", CACHES, ids=str)
def test_tokens_are_those_of_sdpa(cache):
    same_tokens(random_model(1, shift=True), cache)


@pytest.mark.parametrize("cache", ["none", "block-causal", Shows(one_by_one=True)], ids=str)
def test_block_causal_tokens_are_those_of_sdpa(cache):
    same_tokens(random_model(2, pattern="block-causal"), cache)


def same_tokens(model, cache):
    how = {"cache": cache, "policy": {"name": "threshold", "threshold": 0.5}, "max_new_tokens": 9, "block_length": 4}
    one, other = (fdllm.compile(model, attention=name, **how).generate(PROMPTS) for name in ("triton", "sdpa"))
    assert torch.equal(one.tokens, other.tokens)
    assert one.nfe == other.nfe


@final
class Nowhere(AttentionBackend):
    def refusal(self, device) -> str:
        return f"wants a device other than {device}"

    def __call__(self, q, k, v, visible, scale):
        raise AssertionError("attention ran on a device it refuses")


def test_a_backend_that_refuses_the_device_is_refused_at_compile_time():
    with pytest.raises(
        UnsoundError, match=r"attention: Nowhere\(\) cannot run on cpu: it wants a device other than cpu"
    ):
        fdllm.compile(random_model(), attention=Nowhere())


def test_without_a_gpu_or_the_interpreter_it_is_an_error_of_the_user():
    command = [
        sys.executable,
        "-m",
        "fdllm.cli.main",
        "generate",
        "--set",
        "attention=triton",
        "--set",
        "model.device=cpu",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([*command, "--prompt", "1"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert (
        "attention: Triton() cannot run on cpu: it wants a CUDA device; use 'sdpa', or set TRITON_INTERPRET=1"
        in done.stderr
    )
