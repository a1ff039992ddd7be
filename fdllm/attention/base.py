"""What an attention backend is: a function of queries, keys, values and visibility."""

from abc import abstractmethod

import torch
from torch import Tensor

from fdllm.component import Component
from fdllm.visibility import Visibility


class AttentionBackend(Component):
    """Attend.

    Law, checked by `fdllm.testing.check_attention`: equal to softmax attention in float64 within
    the error of its dtype, over grouped heads, odd sizes, strides, and hidden keys of every form.
    """

    def refusal(self, device: torch.device) -> str:
        """Say why it cannot run on a device, and what would help; empty where it can. Asked at compile time."""
        del device
        return ""

    @abstractmethod
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, visible: Visibility | None, scale: float) -> Tensor:
        """Attend from every query to the visible keys.

        Args:
            q: queries, float[B H R D], of any strides, like keys and values: the store is read in place.
            k: keys, float[B G N D]; G divides H, each key head serves H / G consecutive query heads.
            v: values, float[B G N D].
            visible: the keys each query sees, `visible.mask` for their mask; None where that is every key.
            scale: factor on the products before the softmax.

        Returns:
            float[B H R D]. A query that sees no key gives an unspecified finite row.

        """
