"""What an attention backend is: a function of queries, keys, values and visibility."""

from abc import abstractmethod

from torch import Tensor

from fdllm.component import Component


class AttentionBackend(Component):
    """Attend.

    Law, checked by `fdllm.testing.check_attention`: equal to softmax attention in float64 within
    the error of its dtype, over grouped heads, odd sizes and hidden keys.
    """

    @abstractmethod
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
        """Attend from every query to the visible keys.

        Args:
            q: queries, float[B H R D].
            k: keys, float[B G N D]; G divides H, each key head serves H / G consecutive query heads.
            v: values, float[B G N D].
            visible: bool[B 1 R N], broadcastable, or None where every key is visible.
            scale: factor on the products before the softmax.

        Returns:
            float[B H R D]. A query that sees no key gives an unspecified finite row.

        """
