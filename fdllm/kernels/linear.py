"""Products of float32 on a CPU by oneDNN, where torch would take its BLAS library.

Torch's x86 builds send float32 products to MKL, which keeps to 256-bit kernels on processors that
are not Intel's. oneDNN, in the same builds, takes what the processor has (docs/performance.md).
The sums are ordered otherwise, so results differ from torch's in the last bits.
"""

from typing import TypeGuard, final

import torch
from torch import Tensor, nn

AVAILABLE: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


@final
class OneDnnLinear(nn.Module):
    """`nn.Linear` over the same parameters, for inference."""

    def __init__(self, linear: nn.Linear) -> None:
        """Share the parameters of a layer that `fits`."""
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Multiply, float32[... K] -> float32[... N]."""
        return by_onednn(x, self.weight, self.bias)


def fits(module: nn.Module) -> bool:
    """Say whether a module is a plain linear layer that oneDNN may compute."""
    return plain(module) and type(module.weight) is nn.Parameter and _computes(module.weight)


def plain(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Say whether a module is a linear layer that nobody hooked into."""
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module) is nn.Linear and not hooked


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply by a weight that is no layer's, float[... K] -> float[... N], by oneDNN where it may be."""
    call = by_onednn if _computes(weight) and x.dtype == torch.float32 else torch.nn.functional.linear
    return call(x, weight, bias)


def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply, float32[... K] -> float32[... N]."""
    # inductor takes oneDNN's own operator for a constant weight only
    call = torch.ops.fdllm.linear if torch.compiler.is_compiling() else _linear
    return call(x, weight, bias)


def _computes(weight: Tensor) -> bool:
    return AVAILABLE and weight.device.type == "cpu" and weight.dtype == torch.float32


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


def _shaped(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    del bias
    return x.new_empty(*x.shape[:-1], weight.shape[0])


torch.library.define("fdllm::linear", "(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
torch.library.impl("fdllm::linear", "CPU", _linear)
torch.library.register_fake("fdllm::linear", _shaped)
