"""Row statistics straight from hidden states and the LM head, without a row of logits."""

from dataclasses import dataclass

from torch import Tensor

from fdllm.kernels.linear import linear
from fdllm.types import Hidden, Logits


@dataclass(frozen=True, eq=False)
class HeadWeight:
    """An LM head as numbers: logits = cap * tanh(scale * (weight @ hidden + bias) / cap).

    Attributes:
        weight: float[V D].
        bias: float[V], or None.
        scale: factor on the product.
        cap: bound of the logits (Gemma 2, arXiv:2408.00118, 2.2), or None where there is none.

    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def logits(self, hidden: Hidden, ids: slice = slice(None)) -> Logits:
        """Give the logits of some neighboring ids, float[... T], all unless told.

        The product has the dtype of the weight, as a linear layer gives it; scale and cap are float32.
        """
        product = linear(hidden, self.weight[ids], None if self.bias is None else self.bias[ids])
        if self.scale == 1.0 and self.cap is None:
            return product
        scores = product.float() * self.scale
        return scores if self.cap is None else self.cap * (scores / self.cap).tanh()
