"""What every test needs: interpreted kernels, one thread, and the tiny checkpoints by name."""

import os

# before anything imports triton; TRITON_INTERPRET=0 runs kernels on a GPU
os.environ.setdefault("TRITON_INTERPRET", "1")

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA
