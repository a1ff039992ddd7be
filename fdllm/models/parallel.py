"""Tensor parallel: a model sharded over the processes that `torchrun` started, by the backbone's own `tp_plan`.

Every process decodes the whole batch with its share of the heads, experts and vocabulary. Each sum
over the shares ends in the same bits everywhere, and the head's logits are gathered, so all of them
commit the same tokens in the same steps (tests/test_parallel.py).
"""

import os
from importlib.util import find_spec
from math import gcd
from typing import Any

import torch
from torch import distributed
from transformers.distributed.configuration_utils import DistributedConfig

from fdllm.component import SettingError
from fdllm.models.family import CheckpointError, Family


def check_processes(tp: int, device: str) -> None:
    """Hold that the processes which shall share a model run, before anything is read.

    Args:
        tp: processes that share the model; with 1, nothing is asked of the others.
        device: what `load` was given. Of several, each takes the GPU of its `LOCAL_RANK`, or the CPU where
            there is none, as transformers does.

    Raises:
        SettingError: no such number, another number of processes runs, a device that is not theirs, or
            accelerate is missing.

    """
    if isinstance(tp, bool) or not isinstance(tp, int) or tp < 1:
        raise SettingError(f"model.tp: wanted a whole number of at least 1, got {tp!r}")
    if tp == 1:
        return
    running = distributed.get_world_size() if distributed.is_initialized() else int(os.environ.get("WORLD_SIZE", 1))
    if running != tp:
        raise SettingError(
            f"model.tp: wanted {tp} processes, {running} run; start them with "
            f"`torchrun --nproc-per-node {tp} --no-python fdllm generate ...`, or leave tp out"
        )
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    own = "cpu" if kind is None else kind.type
    if device not in ("auto", own):
        raise SettingError(f"model.device: {device!r}, but {tp} processes take {own} by their rank; leave it out")
    # transformers places the shares with it
    if find_spec("accelerate") is None:
        raise SettingError("model.tp: needs accelerate; pip install 'fdllm[tp]', or leave tp out")


def shares(tp: int, family: Family, backbone: Any, settings: Any, path: str) -> dict[str, Any]:
    """Give the arguments of `from_pretrained` that shard a model; none for one process.

    Args:
        tp: processes that share the model.
        family: says how its weights are published.
        backbone: class of transformers that computes it.
        settings: config of that class.
        path: what was given to `load`.

    Raises:
        CheckpointError: the model has no plan, or does not divide by the number of processes.

    """
    if tp == 1:
        return {}
    if family.fused:
        raise CheckpointError(
            f"model.tp: the weights of {path!r} are published fused, so no process can read its share; write a "
            f"native checkpoint with `fdllm convert {path} TARGET`, and load that"
        )
    if not settings.base_model_tp_plan:
        raise CheckpointError(f"model.tp: {backbone.__name__} has no tp_plan in transformers; leave tp out")
    _divides(tp, settings, path)
    return {"distributed_config": DistributedConfig(tp_size=tp)}


def _divides(tp: int, settings: Any, path: str) -> None:
    """Hold that every process gets whole heads, and every expert's width is shared evenly."""
    stored = getattr(settings, "num_key_value_heads", None) or settings.num_attention_heads
    heads = gcd(settings.num_attention_heads, stored)
    experts = getattr(settings, "moe_intermediate_size", None) or 0
    common = gcd(heads, experts)
    if common % tp:
        of_experts = f" and experts of width {experts}" if experts else ""
        fit = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
        raise CheckpointError(
            f"model.tp: {tp} processes cannot share the {stored} K/V heads{of_experts} of {path!r}; give one of {fit}"
        )
