"""What every test needs: one thread, and the tiny checkpoints by name."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA
