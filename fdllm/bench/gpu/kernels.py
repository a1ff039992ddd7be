"""Kernels alone: attention at window shapes beside sdpa and flash-attn, statistics beside the copy bandwidth."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fdllm.bench.gpu.timing import timed
from fdllm.kernels.attention.triton import attend
from fdllm.kernels.head_statistics import HeadWeight
from fdllm.kernels.head_statistics import triton as head_statistics
from fdllm.kernels.row_statistics import reference as plain_statistics
from fdllm.kernels.row_statistics import triton as row_statistics
from fdllm.sampling import Greedy, Vocabulary

USUAL = ("candidate", "confidence")
# queries, keys, heads, key heads: LLaDA-8B's block and whole canvas, a row, and a model of grouped heads
SHAPES = ((32, 1312, 32, 32), (1312, 1312, 32, 32), (1, 1312, 32, 32), (32, 4096, 32, 8))
TINY = ((4, 40, 4, 2),)


def attention(device: torch.device, bandwidth: float, quick: bool, calls: int) -> list[dict[str, Any]]:
    """Time each backend on each shape; `of_copy` is keys and values read once, as a share of the copy bandwidth."""
    rows = []
    for queries, keys, heads, groups in TINY if quick else SHAPES:
        width = 16 if quick else 128
        q = torch.randn(1, heads, queries, width, device=device).to(torch.bfloat16)
        k, v = torch.randn(2, 1, groups, keys, width, device=device).to(torch.bfloat16)
        moved = 2 * k.numel() * k.element_size() + 2 * q.numel() * q.element_size()
        row: dict[str, Any] = {"queries": queries, "keys": keys, "heads": heads, "key_heads": groups, "width": width}
        for name, run in _backends(q, k, v).items():
            timing = timed(run, device, calls)
            row[name] = {**timing.to_dict(), "of_copy": moved / timing.median * 1000 / bandwidth}
        rows.append(row)
    return rows


def _backends(q: Tensor, k: Tensor, v: Tensor) -> dict[str, Callable[[], Any]]:
    scale, grouped = q.shape[-1] ** -0.5, q.shape[1] != k.shape[1]
    found: dict[str, Callable[[], Any]] = {
        "triton": lambda: attend(q, k, v, None, scale),
        "sdpa": lambda: scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=grouped),
    }
    if q.device.type == "cuda" and find_spec("flash_attn") is not None:
        from flash_attn import flash_attn_func

        q_last, k_last, v_last = (x.transpose(1, 2).contiguous() for x in (q, k, v))
        found["flash-attn"] = lambda: flash_attn_func(q_last, k_last, v_last, softmax_scale=scale)
    return found


def statistics(device: torch.device, bandwidth: float, quick: bool, calls: int) -> list[dict[str, Any]]:
    """Time row and head statistics of a window; `of_copy` is logits or head read once, as a share of the copy's."""
    window, depth, size = (2, 32, 300) if quick else (32, 4096, 126_464)
    hidden = torch.randn(1, window, depth, device=device).to(torch.bfloat16)
    weight = (torch.randn(size, depth, device=device) * depth**-0.5).to(torch.bfloat16)
    logits = hidden @ weight.T
    draw = Greedy(Vocabulary(mask_id=5, size=None))
    of_rows = row_statistics.RowStatistics(draw, (), USUAL)
    in_torch = plain_statistics.RowStatistics(draw, (), USUAL)
    of_head = head_statistics.HeadStatistics(HeadWeight(weight), draw, (), USUAL)
    runs: dict[str, tuple[int, Callable[[], Any]]] = {
        "row statistics, triton": (logits.numel() * 2, lambda: of_rows(logits)),
        "row statistics, torch": (logits.numel() * 2, lambda: in_torch(logits)),
        "head statistics, triton": (weight.numel() * 2, lambda: of_head(hidden)),
        "head and row statistics, torch": (weight.numel() * 2, lambda: in_torch(hidden @ weight.T)),
    }
    rows = []
    for name, (moved, run) in runs.items():
        timing = timed(run, device, calls)
        of_copy = moved / timing.median * 1000 / bandwidth
        rows.append({"what": name, "rows": window, "ids": size, **timing.to_dict(), "of_copy": of_copy})
    return rows
