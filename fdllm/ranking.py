"""Take the best slots of each row, ties to the leftmost."""

from torch import Tensor

from fdllm.types import Mask


def ranks(masked: Mask, score: Tensor) -> Tensor:
    """Rank the open slots of each row, best first.

    Args:
        masked: open slots, bool[B W].
        score: larger is better, float[B W]; any finite or infinite value, NaN counts as worst.

    Returns:
        int64[B W]: 0 for the best open slot, 1 for the next ...; open slots come before the
        others; equal scores rank from left to right.

    """
    lowest = score.nan_to_num(nan=-float("inf"), posinf=float("inf"), neginf=-float("inf"))
    by_score = lowest.argsort(dim=-1, descending=True, stable=True)
    order = by_score.gather(-1, (~masked).gather(-1, by_score).to(score.dtype).argsort(dim=-1, stable=True))
    return order.argsort(dim=-1)


def best(masked: Mask, score: Tensor, count: Tensor) -> Mask:
    """Choose the `count` (int64[B 1] slots) best open slots of each row, or all where fewer are open."""
    return masked & (ranks(masked, score) < count)
