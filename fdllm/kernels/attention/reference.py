"""Attention written out in the dtype it is given: in float64 it is what others are measured against."""

from torch import Tensor, inf

from fdllm.visibility import Visibility


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Visibility | None, scale: float) -> Tensor:
    """Attend from every query to the keys it sees.

    Args:
        q: queries, float[B H R D].
        k: keys, float[B G N D]; G divides H, each key head serves H / G consecutive query heads.
        v: values, float[B G N D].
        visible: the keys each query sees; None where that is every key.
        scale: factor on the products before the softmax.

    Returns:
        float[B H R D]; zeros for a query that sees no key.

    """
    group = q.shape[1] // k.shape[1]
    scores = q @ k.repeat_interleave(group, 1).mT * scale
    if visible is not None:
        scores = scores.masked_fill(~visible.mask, -inf)
    weights = scores.softmax(-1).masked_fill((scores == -inf).all(-1, keepdim=True), 0)
    return weights @ v.repeat_interleave(group, 1)
