"""Say where and in which form each node runs: one graph per phase.

A phase is a kind of forward, so that every program has static shapes and can be captured on its
own. On a GPU statistics run in Triton, and K/V are rotated and stored by one kernel where the model's
layers allow; in torch elsewhere. Samples on a CPU are drawn in tiles of the vocabulary (`docs/log.md`
says why).
"""

import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch

from fdllm.caches.base import CachePolicy
from fdllm.component import SettingError
from fdllm.graph import Graph, Node, check, node
from fdllm.kernels.head_statistics import tiled
from fdllm.kernels.head_statistics.reference import HeadStatistics
from fdllm.kernels.row_statistics.reference import RowStatistics
from fdllm.step import ConditionedForward, ConditionedForwardAlone, Forward, ForwardAlone

Form = Literal["torch", "triton"]
KERNELS = ("auto", *get_args(Form))


def phases(cache: CachePolicy) -> tuple[str, ...]:
    """Name the kinds of forward a cache asks for."""
    return ("refresh", "reuse") if cache.stores else ("full",)


def form(kernels: str, device: torch.device) -> Form:
    """Choose the form of the kernels on a device.

    Args:
        kernels: `torch`, `triton`, or `auto`: Triton on a GPU where it is installed.
        device: of the model.

    Raises:
        SettingError: Triton is asked for where it cannot run.

    """
    on_gpu, installed = device.type == "cuda", find_spec("triton") is not None
    if kernels == "auto":
        return "triton" if on_gpu and installed else "torch"
    if kernels == "triton" and not installed:
        raise SettingError("kernels: 'triton' is not installed here; install it, or give kernels = \"auto\"")
    if kernels == "triton" and not on_gpu and os.environ.get("TRITON_INTERPRET") != "1":
        raise SettingError(
            f"kernels: 'triton' needs a GPU, but the model is on {device}; give kernels = \"auto\", or set "
            "TRITON_INTERPRET=1 to have them interpreted, slowly"
        )
    return "triton" if kernels == "triton" else "torch"


def place(graph: Graph, phase: str, kernels: Form = "torch", device: torch.device | None = None) -> Graph:
    """Bind each node to a phase, the form of the kernels and a device; the phase `full` needs no store."""
    nodes = [_placed(n, phase, kernels, device or torch.device("cpu")) for n in graph.nodes]
    inputs = {name: port for name, port in graph.inputs.items() if phase != "full" or name != "store"}
    return check(replace(graph, inputs=inputs, nodes=tuple(nodes)))


def _placed(each: Node, phase: str, kernels: Form, device: torch.device) -> Node:
    op: Any = each.op
    match op:
        case Forward() | ConditionedForward() if phase == "full":
            alone = ForwardAlone if isinstance(op, Forward) else ConditionedForwardAlone
            return node(alone(op.denoiser, op.attention), each.name, writes=tuple(each.writes), title=each.title)
        case Forward() if kernels == "triton":
            storing = op.denoiser.with_store_kv(_in_triton("store_kv", "store_kv"))
            if storing is None:
                return each
            return replace(each, op=replace(op, denoiser=storing), title=f"{each.title} with store_kv in triton")
        case RowStatistics() if kernels == "triton":
            return _instead(each, _in_triton("row_statistics", "RowStatistics")(op.draw, op.reads, op.wanted), "triton")
        case HeadStatistics() if kernels == "triton":
            made = _in_triton("head_statistics", "HeadStatistics")
            return _instead(each, made(op.head, op.draw, op.reads, op.wanted), "triton")
        case HeadStatistics() if device.type == "cpu" and tiled.pays(op.head, op.draw):
            return _instead(each, tiled.HeadStatistics(op.head, op.draw, op.reads, op.wanted), "tiles")
        case _:
            return each


def _instead(each: Node, op: Callable[..., Any], how: str) -> Node:
    return replace(each, op=op, title=f"{each.title} in {how}")


def _in_triton(kernel: str, name: str) -> Any:
    """Import the Triton form of a kernel; nothing else imports triton."""
    return getattr(import_module(f"fdllm.kernels.{kernel}.triton"), name)
