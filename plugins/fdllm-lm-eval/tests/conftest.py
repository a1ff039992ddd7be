"""What every test here needs: one thread, as in fdllm's own tests."""

import torch

torch.set_num_threads(1)
