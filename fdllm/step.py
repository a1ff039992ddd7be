"""The engine's own nodes of the step graph: reading the window, forwards, progress, writing back.

Everything is a pure function of its values, but for the forward, which overwrites the store.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fdllm.attention.base import AttentionBackend
from fdllm.graph import PortError
from fdllm.models.denoiser import Denoiser
from fdllm.noise import random_ids, uniform
from fdllm.ranking import best, ranks
from fdllm.types import (
    CanvasMask,
    CanvasTokens,
    FeedPort,
    Hidden,
    Logits,
    Mask,
    NoiseKey,
    Probability,
    Slots,
    StepCount,
    StorePort,
    Tokens,
    Uniform,
)


@dataclass(frozen=True, eq=False)
class Forward:
    """One forward of the model over the slots of the feed, whose K/V overwrite their own in the store."""

    denoiser: Denoiser
    attention: AttentionBackend

    def __call__(self, canvas: CanvasTokens, feed: FeedPort, store: StorePort) -> Hidden:
        """Give what predicts the window, float[B W D]."""
        return self.denoiser.hidden(canvas, feed, store, self.attention)


@dataclass(frozen=True, eq=False)
class ForwardAlone:
    """One forward of the model over the whole canvas that keeps nothing."""

    denoiser: Denoiser
    attention: AttentionBackend

    def __call__(self, canvas: CanvasTokens, feed: FeedPort) -> Hidden:
        """Give what predicts the window, float[B W D]."""
        return self.denoiser.hidden(canvas, feed, None, self.attention)


@dataclass(frozen=True, eq=False)
class ConditionedForward:
    """`Forward` of a model that also looks at the logits it gave one step earlier."""

    denoiser: Denoiser
    attention: AttentionBackend

    def __call__(self, canvas: CanvasTokens, feed: FeedPort, store: StorePort, previous_logits: Logits) -> Hidden:
        """Give what predicts the window, float[B W D]."""
        return self.denoiser.hidden(canvas, feed, store, self.attention, previous_logits)


@dataclass(frozen=True, eq=False)
class ConditionedForwardAlone:
    """`ForwardAlone` of a model that also looks at the logits it gave one step earlier."""

    denoiser: Denoiser
    attention: AttentionBackend

    def __call__(self, canvas: CanvasTokens, feed: FeedPort, previous_logits: Logits) -> Hidden:
        """Give what predicts the window, float[B W D]."""
        return self.denoiser.hidden(canvas, feed, None, self.attention, previous_logits)


@dataclass(frozen=True, eq=False)
class Head:
    """The LM head, on the slots of the window alone."""

    denoiser: Denoiser

    def __call__(self, hidden: Hidden) -> Logits:
        """Give the logits of the window, float[B W V]."""
        return self.denoiser.head(hidden)


def take(column: Tensor, window: Slots) -> Tensor:
    """Read a column of the canvas at the window, [B N] -> [B W]."""
    return column.gather(1, window)


def put(column: Tensor, window: Slots, values: Tensor) -> Tensor:
    """Write values at the window into a copy of a column, [B N]."""
    return column.scatter(1, window, values.to(column.dtype))


def chance(noise: NoiseKey) -> Uniform:
    """One uniform number per slot, apart from those that sample tokens."""
    return uniform(noise, -1)


def legal(open_slots: CanvasMask, window: Slots, commit: Mask) -> Mask:
    """Commit open slots only, bool[B W]; they are read from the canvas, not from what a policy was handed."""
    return _granted(open_slots.gather(1, window), commit)


def _granted(masked: Mask, commit: Mask) -> Mask:
    if commit.shape != masked.shape:
        got, wanted = tuple(commit.shape), tuple(masked.shape)
        raise PortError(f"the policy's commit has shape {got}; wanted {wanted}, the shape of masked")
    return masked & commit


def at_least_one(open_slots: CanvasMask, window: Slots, commit: Mask, confidence: Probability) -> Mask:
    """`legal`, and the most confident open slot (leftmost of equals) of a row where none is chosen."""
    masked = open_slots.gather(1, window)
    chosen = _granted(masked, commit)
    return chosen | (masked & ~chosen.any(-1, keepdim=True) & (ranks(masked, confidence) == 0))


def all_at_last(open_slots: CanvasMask, window: Slots, commit: Mask, step: StepCount, steps: StepCount) -> Mask:
    """`legal`, and at the last step of the window whatever is open."""
    return legal(open_slots, window, commit | (step + 1 >= steps))


def bounded(masked: Mask, committed: Mask, reopen: Mask) -> Mask:
    """Reopen committed slots only, fewer than are committed in this step; the leftmost come first."""
    allowed = committed.sum(-1, keepdim=True) - 1
    standing = reopen & ~masked
    return best(standing, -standing.cumsum(-1).double(), allowed)


def settle(canvas: CanvasTokens, window: Slots, candidate: Tokens, committed: Mask) -> CanvasTokens:
    """Write the committed candidates into a copy of the canvas, int64[B N]."""
    return canvas.scatter(1, window, candidate.where(committed, canvas.gather(1, window)))


def close(open_slots: CanvasMask, window: Slots, committed: Mask) -> CanvasMask:
    """Mark the committed slots as decided, bool[B N]."""
    return open_slots.scatter(1, window, open_slots.gather(1, window) & ~committed)


def resettle(
    canvas: CanvasTokens, window: Slots, candidate: Tokens, committed: Mask, reopened: Mask, blank: Tokens
) -> CanvasTokens:
    """`settle` for policies that revoke: a reopened slot is blank again."""
    tokens = candidate.where(committed, blank.where(reopened, canvas.gather(1, window)))
    return canvas.scatter(1, window, tokens)


def redraft(
    canvas: CanvasTokens,
    window: Slots,
    masked: Mask,
    candidate: Tokens,
    likeliest: Tokens,
    committed: Mask,
    draft: Mask,
    blank: Tokens,
) -> CanvasTokens:
    """`settle` for policies that draft: likeliest ids where committed, candidates where drafted, else blank."""
    still_open = candidate.where(draft, blank)
    tokens = likeliest.where(committed, still_open.where(masked, canvas.gather(1, window)))
    return canvas.scatter(1, window, tokens)


@dataclass(frozen=True)
class MaskIds:
    """What an open slot of a masked model holds before it is decided."""

    mask_id: int

    def __call__(self, window: Slots) -> Tokens:
        """Give the mask id everywhere, int64[B W]."""
        return torch.full_like(window, self.mask_id)


@dataclass(frozen=True)
class RandomIds:
    """What an open slot of a model of uniform noise holds before it is decided: another id every step."""

    size: int

    def __call__(self, noise: NoiseKey) -> Tokens:
        """Draw ids in [0, size), int64[B W]."""
        return random_ids(noise, self.size)


def reclose(open_slots: CanvasMask, window: Slots, committed: Mask, reopened: Mask) -> CanvasMask:
    """Mark committed slots as decided and reopened ones as open, bool[B N]."""
    return open_slots.scatter(1, window, open_slots.gather(1, window) & ~committed | reopened)
