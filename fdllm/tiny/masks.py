"""Which response tokens of a training row are masked, and what each weighs in the loss."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fdllm.tiny.draws import FEMALE, MALE, NOUNS, PACKS
from fdllm.tiny.money import WORK

OTHER, NAME, NOUN, DIGIT, EQUALS = range(5)
NOT_FOCUSED = 0.1
"""Weight of a masked token that the row is not about: later blocks and the fill after the answer."""
FOCUSED = 5.0
"""Least weight of a row that masks one class of words, all its tokens together: names are few and learned late."""
RESULTS = 0.4
"""Share of the focused rows that ask for one result; the others ask for names, nouns or digits."""
KINDS = ("uniform", "block", "frontier")
SHARES = (0.25, 0.60, 0.15)
FRONTIER = 8
"""Positions after a frontier that weigh fully."""


def class_of(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Tell the class of every token id: name, noun, digit, equals sign or other, [vocabulary]."""
    classes = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    nouns = NOUNS + PACKS + tuple(things for _, _, things in WORK)
    for words, kind in ((MALE + FEMALE, NAME), (nouns, NOUN)):
        classes[[id_of(tokenizer, "\u0120" + word) for word in words]] = kind
    classes[[id_of(tokenizer, digit) for digit in "0123456789"]] = DIGIT
    classes[id_of(tokenizer, "=")] = EQUALS
    return classes


def id_of(tokenizer: Tokenizer, token: str) -> int:
    """Look up a token that must exist."""
    found: int | None = tokenizer.token_to_id(token)
    assert found is not None, token
    return found


def draw_masks(
    classes: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64], focus: float, own: Generator
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Draw every row's mask.

    Args:
        classes: class of every token, [B L].
        start: first position of the response, [B 1].
        end: position of the first end token, [B 1].
        focus: share of rows that mask only one class of words, or only one result and what follows it.
        own: where the draws come from.

    Returns:
        Masked positions and their loss weights, each [B L]; at least one position per row is masked.
    """
    rows, length = classes.shape
    place = np.arange(length)[None] - start
    last = end - start
    kind = own.choice(len(KINDS), size=(rows, 1), p=SHARES)
    size = own.choice([8, 16, 32, 32], size=(rows, 1))
    block = own.integers(last // size + 1)
    frontier = own.integers(last + 1)
    low = np.select([kind == 0, kind == 1], [0, block * size], frontier)
    high = np.select([kind == 0, kind == 1], [length, (block + 1) * size], frontier + FRONTIER)
    inside = (place >= low) & (place < high) & (place >= 0)
    rate = np.where((kind == 2) | (own.random((rows, 1)) < 0.1), 1.0, own.random((rows, 1)))
    draw = np.where(inside, own.random((rows, length)), 2.0)
    masked = inside & (draw < rate) | (draw == draw.min(1, keepdims=True)) | (place >= high)
    weight = np.where((place >= high) | (place > last), NOT_FOCUSED, 1.0)
    focused = own.random((rows, 1)) < focus
    equals = (classes == EQUALS) & (place >= 0)
    on_result = focused & (own.random((rows, 1)) < RESULTS) & equals.any(1, keepdims=True)
    only = _one_class(classes, place >= 0, own)
    heavier = np.maximum(1.0, FOCUSED / only.sum(1, keepdims=True))
    after = np.arange(length)[None] - np.where(equals, own.random((rows, length)), -1.0).argmax(1)[:, None]
    masked = np.select([on_result, focused], [after > 0, only], masked)
    weight = np.select([on_result, focused], [np.where(after <= 3, FOCUSED / 3, NOT_FOCUSED), heavier], weight)
    return masked, (masked * weight).astype(np.float32)


def _one_class(classes: NDArray[np.int64], response: NDArray[np.bool_], own: Generator) -> NDArray[np.bool_]:
    """Mask one class of words; digits where the response has none of the class drawn."""
    rows = len(classes)
    wanted = own.choice([NAME, NOUN, DIGIT], size=(rows, 1), p=[0.6, 0.2, 0.2])
    found = (classes == wanted) & response
    digits = (classes == DIGIT) & response
    some = found & (own.random(classes.shape) < np.where(wanted == DIGIT, own.random((rows, 1)), 0.8))
    instead = np.where(found.any(1, keepdims=True), found, digits)
    chosen: NDArray[np.bool_] = np.where(some.any(1, keepdims=True), some, instead)
    return chosen
