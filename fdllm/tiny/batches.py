"""Training batches of the tiny model: which problems, how long, and which tokens are masked with what weight.

Everything is drawn from (seed, step, rank), so a run can stop and go on anywhere.
"""

import re
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fdllm.tiny.masks import NOT_FOCUSED, class_of, draw_masks, id_of
from fdllm.tiny.problems import few_shot, problems
from fdllm.tiny.tokenizer import EOS_ID

RESPONSE = 96
"""Response positions of few-shot and long batches, at least."""


@dataclass(frozen=True)
class Batch:
    """Clean tokens, where they are masked, and the loss weight there; each [B L]."""

    tokens: NDArray[np.int64]
    masked: NDArray[np.bool_]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class Mixture:
    """Shares at one point of the schedule: of batches (drill, few-shot, long) and of rows (focus)."""

    drill: float
    shots: float
    long: float
    focus: float


def mixture_at(progress: float) -> Mixture:
    """Choose the mixture for a fraction of the run done, 0..1."""
    if progress < 0.25:
        return Mixture(drill=0.25, shots=0.0, long=0.10, focus=0.45)
    if progress < 0.45:
        return Mixture(drill=0.12, shots=0.0, long=0.10, focus=0.45)
    if progress < 0.65:
        return Mixture(drill=0.08, shots=0.0, long=0.15, focus=0.30)
    return Mixture(drill=0.04, shots=0.12, long=0.30, focus=0.15)


CONTINUED = Mixture(drill=0.06, shots=0.20, long=0.20, focus=0.20)
"""The mixture of a run that begins with trained weights; its share of few-shot batches is an option."""


class Batches:
    """Draws the batch of any step."""

    def __init__(self, tokenizer: Tokenizer, seed: int, rank: int, rows: int) -> None:
        """`rows` is the number of sequences of an ordinary batch."""
        self.tokenizer, self.seed, self.rank, self.rows = tokenizer, seed, rank, rows
        self.classes = class_of(tokenizer)

    def at(self, step: int, mixture: Mixture) -> Batch:
        """Draw the batch of a step; all ranks draw the same kind, from different problems."""
        shared, own = default_rng((self.seed, step)), default_rng((self.seed, step, self.rank + 1))
        kind = shared.random()
        if kind < mixture.drill:
            return self._drill(step, own)
        if kind < mixture.drill + mixture.shots:
            shots = int(shared.choice([1, 2, 3, 4, 5, 5, 5, 6, 8]))
            rows = max(4, self.rows * 88 // (72 * shots + 140))
            prompts, texts = self._few_shot(step, shots, rows)
            length = _rounded(max(len(p) for p in prompts) + RESPONSE)
        elif kind < mixture.drill + mixture.shots + mixture.long:
            prompts, texts = self._plain(step, self.rows * 5 // 8)
            length = _rounded(max(len(p) for p in prompts) + RESPONSE + 32 * int(shared.integers(2)))
        else:
            prompts, texts = self._similar(step, int(shared.integers(4)))
            need = max(len(p) + len(t) for p, t in zip(prompts, texts, strict=True))
            length = _rounded(need + 1 + int(shared.choice([0, 0, 8, 16])))
        return self._masked(prompts, texts, length, mixture, own)

    def _masked(
        self, prompts: list[list[int]], texts: list[list[int]], length: int, mixture: Mixture, own: Generator
    ) -> Batch:
        tokens = np.full((len(prompts), length), EOS_ID, dtype=np.int64)
        start = np.array([[len(prompt)] for prompt in prompts])
        end = np.array([[len(p) + len(t)] for p, t in zip(prompts, texts, strict=True)])
        for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            tokens[row, : len(prompt) + len(text)] = prompt + text
        masked, weight = draw_masks(self.classes[tokens], start, end, mixture.focus, own)
        return Batch(tokens, masked, weight)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch(texts)]

    def _plain(self, step: int, count: int) -> tuple[list[list[int]], list[list[int]]]:
        drawn = list(islice(problems(f"{self.seed}/{self.rank}/{step}"), count))
        return self._encode([p.question for p in drawn]), self._encode([p.text for p in drawn])

    def _similar(self, step: int, third: int) -> tuple[list[list[int]], list[list[int]]]:
        """Draw problems of similar length, so that little is filled: a window of twice as many, sorted."""
        prompts, texts = self._plain(step, self.rows * 2)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(texts[i]))
        start = third * self.rows // 3
        chosen = order[start : start + self.rows]
        return [prompts[i] for i in chosen], [texts[i] for i in chosen]

    def _few_shot(self, step: int, shots: int, rows: int) -> tuple[list[list[int]], list[list[int]]]:
        drawn = list(islice(problems(f"{self.seed}/{self.rank}/{step}"), rows * (shots + 1)))
        asked, shown = drawn[:rows], drawn[rows:]
        prompts = [few_shot(shown[i * shots : (i + 1) * shots], problem) for i, problem in enumerate(asked)]
        return self._encode(prompts), self._encode([p.text for p in asked])

    def _drill(self, step: int, own: Generator) -> Batch:
        """Draw rows of equations alone: the signal that arithmetic needs, without reading a story."""
        drawn = islice(problems(f"{self.seed}/{self.rank}/{step}"), self.rows * 4)
        spelled = self._encode([" " + e for p in drawn for e in re.findall(r"\d+.\d+=\d+", p.text)])
        equals = id_of(self.tokenizer, "=")
        shape = self.rows, RESPONSE
        tokens, masked = np.full(shape, EOS_ID, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
        for row in range(self.rows):
            column = 0
            while column + len(spelled[-1]) < RESPONSE:
                ids = spelled.pop() if len(spelled) > 1 else spelled[0]
                tokens[row, column : column + len(ids)] = ids
                hidden = _hide(len(ids), ids.index(equals), own)
                masked[row, column : column + len(hidden)] |= hidden
                column += len(ids)
        masked[:, 0] |= ~masked.any(1)
        return Batch(tokens, masked, masked.astype(np.float32) * np.where(tokens == EOS_ID, NOT_FOCUSED, 1.0))


def _hide(size: int, equals: int, own: Generator) -> NDArray[np.bool_]:
    """Mask one equation and the token after it; `equals` is the place of its equals sign."""
    kind, place = own.random(), np.arange(size + 1)
    if kind < 0.55:
        return place > equals
    if kind < 0.75:
        return (place > equals) & (place < size) & (own.random(size + 1) < 0.5)
    return (kind < 0.88) & (place > 0) & (place < size) & (own.random(size + 1) < 0.3)


def _rounded(length: int) -> int:
    return -(-length // 8) * 8
