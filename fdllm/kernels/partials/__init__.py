"""Partials: what a stretch of the vocabulary contributes to the statistics of a row, eight numbers each.

A stretch is a tile of a kernel or a device's share of the head. The partials of any number of
stretches, of any sizes, combine to those of all of them, so that a row of logits need not exist
in one place.
"""

from typing import NamedTuple

from torch import Tensor


class Partials(NamedTuple):
    """Views of one float32[8 R S]: field, row, stretch. Fields of statistics that are not wanted may hold anything.

    Attributes:
        top: largest logit.
        total: sum of exp(logit - top).
        best: largest score a legal id is drawn by: its logit, or the noisy one when sampling.
        candidate: the lowest id of that score, as a float; `sampling.NOBODY` where no id is legal.
        score: logit of the candidate.
        second: largest logit but one, for the margin; -inf where there is one id.
        tilt: sum of (logit - top) * exp(logit - top), for the entropy.
        current: logit of the token that stands in the slot now, -inf in other stretches.

    """

    top: Tensor
    total: Tensor
    best: Tensor
    candidate: Tensor
    score: Tensor
    second: Tensor
    tilt: Tensor
    current: Tensor
