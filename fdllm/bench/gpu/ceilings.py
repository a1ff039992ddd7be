"""What the device can do at most: bytes copied and products in bfloat16, each per second."""

from typing import Any

import torch

from fdllm.bench.gpu.timing import timed


def ceilings(device: torch.device, quick: bool, calls: int) -> dict[str, Any]:
    """Measure both.

    Returns:
        `copy_bytes_per_second`: bytes read and bytes written of a large copy; `flops`: 2 n^3 of a square product.

    """
    size, side = (2**22, 256) if quick else (2**30, 8192)
    source = torch.zeros(size, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    a, b = torch.randn(2, side, side, device=device).to(torch.bfloat16)
    copying, multiplying = timed(lambda: target.copy_(source), device, calls), timed(lambda: a @ b, device, calls)
    return {
        "copy_bytes": size,
        "copy_ms": copying.to_dict(),
        "copy_bytes_per_second": 2 * size / copying.median * 1000,
        "matmul_side": side,
        "matmul_ms": multiplying.to_dict(),
        "flops": 2 * side**3 / multiplying.median * 1000,
    }
