"""From the host to the device without waiting for it."""

import torch
from torch import Tensor


def to_device(numbers: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the host; to a CUDA device through pinned memory, in the order of what is queued there."""
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)
