"""One launch of a kernel as a value: it can run, or be compiled for a device that is not there.

Every kernel's `triton.py` makes its launches in one place, and by the same code offers
`specimens()`, launches over tensors of the meta device, which `fdllm.kernels.aot` compiles.
"""

import inspect
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

KINDS = {"float": "fp", "bfloat": "bf", "int": "i", "uint": "u", "bool": "i1"}

# takes launches over where a step is being recorded
recording: ContextVar[Callable[[Callable[[], None]], None] | None] = ContextVar("recording", default=None)


@dataclass(frozen=True)
class Launch:
    """A kernel and what it is called with.

    Attributes:
        kernel: a function made by `triton.jit`.
        grid: programs along each axis.
        arguments: every parameter by name: tensors, numbers, constants, None for a pointer that is not read.
        warps: warps of a program.
        stages: depth of the pipeline of loads.

    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any] = field(repr=False)
    warps: int = 4
    stages: int = 2

    def __str__(self) -> str:
        """Name the kernel, the dtype of its first tensor and its constants."""
        fixed = {name: value for name, value in self.constants().items() if name.isupper()}
        settings = " ".join(f"{name}={_short(value)}" for name, value in fixed.items())
        return f"{self.kernel.__name__.removesuffix('_kernel')} {self.types()[self.kernel.arg_names[0]][1:]} {settings}"

    def run(self) -> None:
        """Launch it on the device of its tensors, or hand the launch to what records it."""
        record = recording.get()
        record(self._launched) if record else self._launched()

    def _launched(self) -> None:
        tensor = next(value for value in self.arguments.values() if isinstance(value, Tensor))
        with torch.cuda.device_of(tensor):  # type: ignore[no-untyped-call]
            self.kernel[self.grid](**self.arguments, num_warps=self.warps, num_stages=self.stages)

    def types(self) -> dict[str, str]:
        """Write the type of each parameter as the compiler wants it: `*bf16`, `i32`, `fp32` or `constexpr`."""
        parameters = inspect.signature(self.kernel.fn).parameters.values()
        return {p.name: _type(self.arguments[p.name], p.annotation.__name__ == "constexpr") for p in parameters}

    def constants(self) -> dict[str, Any]:
        """Give the values that are compiled in: constants, numbers that are 1, pointers that are None."""
        return {name: self.arguments[name] for name, kind in self.types().items() if kind == "constexpr"}

    def divisible(self) -> tuple[int, ...]:
        """Name the parameters, by place, that are multiples of 16: allocated tensors and some numbers."""
        values = [None if kind == "constexpr" else self.arguments[name] for name, kind in self.types().items()]
        return tuple(place for place, value in enumerate(values) if _is_divisible(value))


def strides(x: Tensor, *names: str) -> dict[str, int]:
    """Name the strides of a tensor, as arguments."""
    return dict(zip(names, x.stride(), strict=True))


def power_of_two(n: int) -> int:
    """Round up to a power of two: the sizes a tile may have."""
    return 1 << max(n - 1, 0).bit_length()


def _type(value: Any, is_constant: bool) -> str:
    if is_constant or value is None or (isinstance(value, int) and value == 1):
        return "constexpr"
    if isinstance(value, Tensor):
        return "*" + re.sub(r"[a-z]+", lambda word: KINDS[word[0]], str(value.dtype).removeprefix("torch."))
    return "fp32" if isinstance(value, float) else "i32" if abs(value) < 2**31 else "i64"


def _is_divisible(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
