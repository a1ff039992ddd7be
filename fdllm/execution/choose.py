"""`execution`: from its name to the object that takes turns."""

from typing import Literal, get_args

import torch

from fdllm.execution.base import Execution, ExecutionError, Turn
from fdllm.execution.compiled import Compiled
from fdllm.execution.eager import Eager
from fdllm.execution.graphs import Graphs
from fdllm.execution.static import Static
from fdllm.execution.tape import Tape
from fdllm.models.denoiser import Denoiser

Name = Literal["auto", "eager", "compile", "cudagraph", "static"]
NAMES: tuple[str, ...] = get_args(Name)


def chosen(name: str, denoiser: Denoiser) -> str:
    """Say what `auto` means for a model, and refuse what cannot run.

    Raises:
        ExecutionError: says what is wanted, and what to choose instead.

    """
    name = "eager" if name == "auto" else name
    device = denoiser.device
    if name == "cudagraph" and device.type != "cuda":
        raise ExecutionError(
            f"execution: 'cudagraph' wants a CUDA device, but the model is on {device}; use 'eager' or 'compile', "
            "or 'static' to check on any device that its steps can be recorded"
        )
    if name != "eager" and denoiser.tp > 1:
        raise ExecutionError(
            f"execution: {name!r} wants a model that one process has alone, but {denoiser.tp} share it; use 'eager'"
        )
    return name


def make(name: str, turn: Turn, device: torch.device) -> Execution:
    """Make what takes the turns of one run, from a name that `chosen` gave."""
    match name:
        case "compile":
            return Compiled(turn)
        case "static":
            return Static(turn, Tape())
        case "cudagraph":
            return Static(turn, Graphs(device))
        case _:
            return Eager(turn)
