"""Counter-based noise: a function of (seed, row id, slot, step), the same in any batch on any device.

Integer hashing only, so the bits are equal everywhere; 23 of them make a uniform number that
float32 holds exactly, never 0 and never 1. The mixer is the 32-bit finalizer "lowbias32" by
Chris Wellons (public domain), applied twice around a second key.
"""

import torch
from torch import Tensor

from fdllm.types import Logits, NoiseKey, Slots, Tokens, Uniform

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


def mix(bits: Tensor) -> Tensor:
    """Scramble 32-bit integers held in int64, any shape."""
    bits = bits & _WORD
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) & _WORD
    bits = ((bits ^ (bits >> 15)) * 0x846CA68B) & _WORD
    return bits ^ (bits >> 16)


def keys(seed: int, row_ids: Tensor, slots: Slots, step: int | Tensor) -> NoiseKey:
    """One key per slot of the window.

    Args:
        seed: any int; its low 64 bits count.
        row_ids: int64[B 1], a row's identity in the whole run.
        slots: absolute slots, int64[B W].
        step: step within the window, a number or int64[B 1].

    Returns:
        int64[B W] below 2**32.

    """
    return slot_keys(row_keys(seed, row_ids), slots, step)


def row_keys(seed: int, row_ids: Tensor) -> Tensor:
    """Mix what stays the same for a whole run, int64[B 1]; see `keys`."""
    return _mixed(mix(row_ids + (_GOLDEN * seed & _WORD)), seed >> 32 & _WORD)


def slot_keys(row_keys: Tensor, slots: Slots, step: int | Tensor) -> NoiseKey:
    """Go on from `row_keys`, int64[B W]; see `keys`."""
    return _mixed(_mixed(row_keys, slots), step)


def _mixed(key: Tensor, part: Tensor | int) -> Tensor:
    return mix(key * 3 + _GOLDEN + part)


def uniform(key: Tensor, counter: Tensor | int) -> Uniform:
    """Uniform numbers in (0, 1), float32 of the broadcast shape of `key` and `counter`."""
    bits = mix(mix(key + _GOLDEN * counter) ^ key)
    return ((bits >> 9).float() + 0.5) * 2.0**-23


def random_ids(key: NoiseKey, size: int) -> Tokens:
    """One id in [0, size) per key, all equally likely up to size / 2**23; int64 of the shape of `key`."""
    return (uniform(key, -2) * size).long().clamp(max=size - 1)


def gumbel(key: NoiseKey, logits: Logits, first: int = 0) -> Tensor:
    """Standard Gumbel noise for every id of every slot, float32[B W V]; `first` is the id of the first column."""
    ids = torch.arange(first, first + logits.shape[-1], device=logits.device)
    return -(-uniform(key.unsqueeze(-1), ids).log()).log()
