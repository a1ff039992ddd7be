"""Intervals at 95 % for shares, for the difference of two shares of the same problems, and medians with their range."""

import math
import statistics
from collections.abc import Sequence

Z = 1.959964
"""Half width of the middle 95 % of a normal distribution, in standard deviations."""


def wilson(right: int, count: int) -> tuple[float, float]:
    """Give the bounds of a share. Source: Wilson 1927, Probable inference, J. Am. Stat. Assoc. 22."""
    share = right / count
    middle = share + Z * Z / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    low, high = (middle - half) / (1 + Z * Z / count), (middle + half) / (1 + Z * Z / count)
    # rounding can leave the bound of none or of all a last bit inside the share
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def paired_difference(ours: Sequence[bool], theirs: Sequence[bool]) -> tuple[float, float, float]:
    """Compare two decoders on the same problems: the difference of their shares, and the bounds of that.

    The bounds are Wald's after half an observation is added to each of the four outcomes, as a
    difference of 0 out of few problems would have no width without. Source: Agresti and Min 2005,
    Simple improved confidence intervals for comparing matched proportions, Stat. Med. 24.

    Args:
        ours: whether each problem was right.
        theirs: the same of the decoder compared with.

    """
    pairs = list(zip(ours, theirs, strict=True))
    gained, lost = pairs.count((True, False)), pairs.count((False, True))
    count = len(pairs) + 2
    middle, apart = (gained - lost) / count, gained + lost + 1
    half = Z * math.sqrt(max(0.0, apart - (gained - lost) ** 2 / count)) / count
    return (gained - lost) / len(pairs), max(-1.0, middle - half), min(1.0, middle + half)


def median_and_range(values: Sequence[float]) -> tuple[float, float, float]:
    """Give the median, the least and the greatest."""
    return statistics.median(values), min(values), max(values)
