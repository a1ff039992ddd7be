"""Every kernel compiles for GPUs that are not there, and none spills. In processes that do not interpret kernels."""

import os
import subprocess
import sys

import pytest
import torch

from fdllm.kernels import aot
from fdllm.kernels.attention.tiling import Tiling
from fdllm.kernels.attention.triton import planned
from fdllm.visibility import Visibility


def compiled_by(*arguments):
    """Run Python without the interpreter of kernels."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_every_kernel_compiles_without_spills():
    done = compiled_by("-m", "fdllm.kernels.aot")
    assert done.returncode == 0, done.stdout + done.stderr
    head, *rows = (line.split() for line in done.stdout.splitlines())
    assert head == ["kernel", "sm", "registers", "spilled", "shared"]
    assert {row[-4] for row in rows} == {"80", "90"}
    assert {(row[0], row[1]) for row in rows} >= {
        (kernel, dtype)
        for kernel in ("attend", "store_kv", "row_partials", "head_partials")
        for dtype in ("fp32", "bf16", "fp16")
    }
    assert all(0 < int(row[-3]) <= 255 and int(row[-2]) == 0 for row in rows)


SPILLS = """
import torch
from fdllm.kernels.aot import compiled
from fdllm.kernels.attention.tiling import Tiling
from fdllm.kernels.attention.triton import planned
q = torch.empty(1, 1, 64, 128, device="meta")
(launch,) = planned(q, q, q, None, 1.0, Tiling(64, 64, 128, 1, 4, 1))[1]
report = compiled(launch, 80)
print(report.spilled > 0, report.fits)
"""


@pytest.mark.slow
def test_spills_are_seen_and_refused():
    done = compiled_by("-c", SPILLS)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_an_interpreted_kernel_is_not_compiled():
    with pytest.raises(RuntimeError, match="aot: wanted compiled kernels, but TRITON_INTERPRET is set; unset it"):
        aot.compiled(next(aot.specimens()), 80)


def test_a_launch_says_what_the_compiler_wants_to_know():
    q = torch.empty(2, 4, 3, 20, dtype=torch.bfloat16, device="meta")
    k = torch.empty(2, 2, 33, 20, dtype=torch.bfloat16, device="meta")[:, :, :32]
    ends, chosen = (
        torch.empty(2, 1, dtype=torch.int32, device="meta"),
        torch.empty(2, 32, dtype=torch.bool, device="meta"),
    )
    cut = Tiling(16, 16, 32, 1, 4, 2)
    (launch,) = planned(q, k, k, Visibility(ends, ends, 32, chosen), 0.5, cut)[1]
    types, names = launch.types(), list(launch.types())
    assert [types[name] for name in ("q", "ends", "chosen", "k_g", "num_keys")] == [
        "*bf16",
        "*i32",
        "*u8",
        "i32",
        "i32",
    ]
    # a stride of 1 and a pointer that is not read are compiled in, as at a launch
    assert {"q_d", "mass", "s_b", "WIDTH", "REAL"} <= launch.constants().keys()
    assert launch.constants()["q_d"] == 1 and launch.constants()["mass"] is None
    # 0, 32, 240 and what the allocator returns are multiples of 16; 660, 60 and 20 are not
    divisible = {names[place] for place in launch.divisible()}
    assert divisible == {"q", "k", "v", "starts", "ends", "chosen", "out", "q_b", "s_r", "e_r", "c_b", "num_keys"}
    assert str(launch).startswith("attend bf16 GROUP=2 WIDTH=20 SCALE=0.721 SPLITS=1 BM=16 BN=16 BD=32 REAL=")
