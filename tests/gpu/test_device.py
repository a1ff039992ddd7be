"""What `python -m fdllm.bench.gpu` checks before it times, as tests: TRITON_INTERPRET=0 pytest -m gpu tests/gpu."""

import pytest
import torch

from fdllm.bench.gpu import checks
from fdllm.compiling import compile as compile_decoder
from fdllm.kernels.dot import INTERPRETED
from fdllm.testing import random_model

pytestmark = pytest.mark.gpu(reason="wants a CUDA device, and kernels compiled for it instead of interpreted")
DEVICE = torch.device("cuda")


@pytest.fixture(autouse=True)
def compiled():
    assert not INTERPRETED, "set TRITON_INTERPRET=0: the kernels are to be compiled for the device"


@pytest.mark.parametrize("name", [name for name in checks.CHECKS if name != "decoding"])
def test_check(name):
    checks.CHECKS[name](DEVICE)


@pytest.mark.parametrize("execution", ["eager", "cudagraph", "compile"])
@pytest.mark.parametrize("cache", list(checks.caches()))
def test_tokens_are_those_of_the_cpu(cache, execution):
    checks.same_tokens(DEVICE, cache, execution)


def test_keys_are_rotated_and_stored_by_the_kernel_unless_told_otherwise():
    how = {"cache": "dual", "max_new_tokens": 8}
    model = checks.moved(random_model(), DEVICE)
    assert "with store_kv in triton" in compile_decoder(model, **how).explain()
    assert "store_kv" not in compile_decoder(model, kernels="torch", **how).explain()


def test_a_planned_run_replays_without_reading():
    model = checks.moved(random_model(), DEVICE)
    how = {"cache": "dual", "policy": {"name": "top-k", "k": 1}, "execution": "cudagraph"}
    made = compile_decoder(model, max_new_tokens=24, block_length=6, stop_at_eos=False, **how)
    out = made.generate([[1, 2, 3]])
    # of each phase one turn warms up and one is captured
    assert out.stats.reads == 0 and out.stats.replays == out.nfe - 4
    assert made.generate([[4, 5, 6]]).stats.replays == out.nfe
