"""Take the best slots of each row, and the best id of each slot; ties to the leftmost."""

from torch import Tensor

from fdllm.types import Mask, Tokens

TILE = 256
"""Neighboring scores of which only the highest is looked at at first."""
FEW = 2**17
"""Up to so many scores tiles do not pay."""


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


def first_max(scores: Tensor) -> tuple[Tensor, Tokens]:
    """Find the highest score of the last dim and where it first stands.

    A maximum alone is found several times as fast on a CPU as one with its place, so many scores go
    by tiles there (docs/log.md).

    Args:
        scores: float[... V]; NaN is above everything.

    Returns:
        The score and its index, [...].

    """
    if scores.device.type != "cpu" or scores.numel() <= FEW or scores.shape[-1] < TILE:
        highest, index = scores.max(-1)
        return highest, index
    return max_by_tiles(scores)


def max_by_tiles(scores: Tensor) -> tuple[Tensor, Tokens]:
    """Do so by tiles: the best tile, then the best of it and of what is left behind the last tile."""
    count = scores.shape[-1] // TILE
    tiles = scores[..., : count * TILE].reshape(*scores.shape[:-1], count, TILE)
    rest = scores[..., count * TILE :]
    tile = tiles.amax(-1).max(-1).indices[..., None]
    highest, place = tiles.gather(-2, tile[..., None].expand(*tile.shape, TILE)).squeeze(-2).max(-1)
    index = tile.squeeze(-1) * TILE + place
    if not rest.shape[-1]:
        return highest, index
    last, place = rest.max(-1)
    above = (last > highest) | (last.isnan() & ~highest.isnan())
    return last.where(above, highest), (place + count * TILE).where(above, index)
