"""One launch of a kernel as a value: it can run, or be compiled for a device that is not there.

Every kernel's `triton.py` makes its launches in one place and offers `specimens()`, some of them
over tensors on the meta device, which `fdllm.kernels.aot` compiles.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Launch:
    """A kernel and what it is called with.

    Attributes:
        title: what it is, for tables: the kernel, its form, dtype and shape.
        kernel: a function made by `triton.jit`.
        grid: programs along each axis.
        arguments: every parameter by name: tensors, numbers, constants, None for a pointer that is not read.
        warps: warps of a program.
        stages: depth of the pipeline of loads.

    """

    title: str
    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any] = field(repr=False)
    warps: int = 4
    stages: int = 2

    def run(self) -> None:
        """Launch it on the device of its tensors."""
        self.kernel[self.grid](**self.arguments, num_warps=self.warps, num_stages=self.stages)

    def types(self) -> dict[str, str]:
        """Write the type of each parameter as the compiler wants it: `*bf16`, `i32`, `fp32` or `constexpr`."""
        return {p.name: _type(self.arguments[p.name], p.is_constexpr) for p in self.kernel.params}

    def constants(self) -> dict[str, Any]:
        """Give the values that are compiled in: constants, numbers that are 1, pointers that are None."""
        return {name: self.arguments[name] for name, kind in self.types().items() if kind == "constexpr"}

    def divisible(self) -> tuple[int, ...]:
        """Name the parameters, by place, that are multiples of 16: allocated tensors and some numbers."""
        values = [(i, self.arguments[name]) for i, (name, kind) in enumerate(self.types().items()) if kind != "constexpr"]
        return tuple(i for i, value in values if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0))


def _type(value: Any, is_constant: bool) -> str:
    if is_constant or value is None or (isinstance(value, int) and value == 1):
        return "constexpr"
    if isinstance(value, Tensor):
        kinds = {"float": "fp", "bfloat": "bf", "int": "i", "uint": "u", "bool": "i1"}
        name = str(value.dtype).removeprefix("torch.")
        return "*" + kinds[name.rstrip("0123456789")] + name.lstrip("bfloatuin")
    return "fp32" if isinstance(value, float) else "i32" if abs(value) < 2**31 else "i64"
