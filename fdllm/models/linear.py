"""A linear layer of float32 on a CPU by oneDNN, where torch would take its BLAS library.

Torch's x86 builds send float32 products to MKL, which keeps to 256-bit kernels on processors that
are not Intel's. oneDNN, in the same builds, takes what the processor has (docs/performance.md).
The sums are ordered otherwise, so results differ from torch's in the last bits.
"""

from typing import final

import torch
from torch import Tensor, nn


@final
class OneDnnLinear(nn.Module):
    """`nn.Linear` over the same parameters, for inference."""

    def __init__(self, linear: nn.Linear) -> None:
        """Share the parameters of a layer that `fits`."""
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Multiply, float32[... K] -> float32[... N]."""
        # inductor takes oneDNN's own operator for a constant weight only
        call = torch.ops.fdllm.linear if torch.compiler.is_compiling() else _linear
        return call(x, self.weight, self.bias)


def fits(module: nn.Module) -> bool:
    """Say whether a module is a plain linear layer that oneDNN may compute."""
    if type(module) is not nn.Linear or not torch.backends.mkldnn.is_available():
        return False
    weight = module.weight
    return type(weight) is nn.Parameter and weight.device.type == "cpu" and weight.dtype == torch.float32


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


def _shaped(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    del bias
    return x.new_empty(*x.shape[:-1], weight.shape[0])


torch.library.define("fdllm::linear", "(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
torch.library.impl("fdllm::linear", "CPU", _linear)
torch.library.register_fake("fdllm::linear", _shaped)
