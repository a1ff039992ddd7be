"""How the candidate of a slot is drawn, and which ids may be drawn at all.

The mask id and ids beyond the tokenizer are never candidates; they keep their share of the
distribution, as in the published code, so confidences are those of the model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from fdllm.noise import gumbel
from fdllm.ranking import first_max
from fdllm.types import Logits, NoiseKey, Temperature, Tokens

# the id where none is legal: beyond any vocabulary, and like every id up to it exact in float32
NOBODY = 2**24


@dataclass(frozen=True)
class Vocabulary:
    """The ids a model may produce: `[0, size)`, or all it scores where `size` is None, without the mask id if any."""

    mask_id: int | None
    size: int | None

    def best(self, scores: Tensor) -> Tokens:
        """Return the legal id of the highest score, int64[B W]; equal scores give the lowest id."""
        return self.highest(scores)[1]

    def highest(self, scores: Tensor, first: int = 0) -> tuple[Tensor, Tokens]:
        """Find the highest score of a legal id among some neighboring ids.

        Args:
            scores: of the ids from `first` on, [... T].
            first: the id of the first column.

        Returns:
            The score and its id, [...]; equal scores give the lowest id. Where no id is legal, -inf
            and `NOBODY`.

        """
        stop = first + scores.shape[-1]
        end = stop if self.size is None else min(stop, self.size)
        hole = end if self.mask_id is None else self.mask_id
        sides = [range(first, min(hole, end)), range(max(hole + 1, first), end)]
        found = [first_max(scores[..., side.start - first : side.stop - first]) for side in sides if side]
        ids = [place + side.start for (_, place), side in zip(found, filter(None, sides), strict=True)]
        if not found:
            lowest = torch.full_like(scores[..., 0], -torch.inf)
            return lowest, torch.full_like(lowest, NOBODY, dtype=torch.int64)
        if len(found) == 1:
            return found[0][0], ids[0]
        above = found[1][0] > found[0][0]
        return found[1][0].where(above, found[0][0]), ids[1].where(above, ids[0])


@dataclass(frozen=True)
class Greedy:
    """Take the likeliest legal id."""

    vocabulary: Vocabulary

    def __call__(self, logits: Logits) -> Tokens:
        """Choose, int64[B W]; ties go to the lowest id."""
        return self.highest(logits)[1]

    def highest(self, logits: Tensor, first: int = 0) -> tuple[Tensor, Tokens]:
        """Choose among the ids from `first` on; see `Vocabulary.highest`."""
        return self.vocabulary.highest(logits, first)


@dataclass(frozen=True)
class Sample:
    """Draw from softmax(logits / temperature) by Gumbel-max, with counter-based noise."""

    vocabulary: Vocabulary
    temperature: float

    def __call__(self, logits: Logits, noise: NoiseKey) -> Tokens:
        """Draw, int64[B W]; the same key draws the same id."""
        return self.highest(logits, noise)[1]

    def highest(self, logits: Tensor, noise: NoiseKey, first: int = 0) -> tuple[Tensor, Tokens]:
        """Draw among the ids from `first` on, by noisy scores; see `Vocabulary.highest`."""
        return self.vocabulary.highest(logits.float() / self.temperature + gumbel(noise, logits, first), first)


@dataclass(frozen=True)
class SampleAt:
    """`Sample` at a temperature that changes with the step."""

    vocabulary: Vocabulary

    def __call__(self, logits: Logits, noise: NoiseKey, temperature: Temperature) -> Tokens:
        """Draw, int64[B W]; the same key draws the same id."""
        return self.vocabulary.best(divide_at(logits, temperature) + gumbel(noise, logits))


@dataclass(frozen=True)
class Divide:
    """Bring logits to the sampling temperature, for policies whose signals are at it."""

    temperature: float

    def __call__(self, raw_logits: Logits) -> Logits:
        """Divide in float32, float[B W V]."""
        return raw_logits.float() / self.temperature


def divide_at(raw_logits: Logits, temperature: Temperature) -> Logits:
    """Divide in float32 by each row's temperature, float[B W V]."""
    return raw_logits.float() / temperature.unsqueeze(-1)


@dataclass(frozen=True)
class Truncate:
    """Narrow the distribution to its likeliest ids; every signal then describes what is left.

    Source: Ye et al. 2025, Dream, arXiv:2508.15487, generation_utils.py, sample_tokens: top_p
    first, at the sampling temperature, then top_k. The id that crosses `top_p` stays, and so
    does the likeliest legal id.

    Attributes:
        top_p: keep the smallest set whose probability exceeds this, or None.
        top_k: keep this many ids, and those equal to the last, or None.
        temperature: sampling temperature; 0 counts as 1 here.

    """

    vocabulary: Vocabulary
    top_p: float | None
    top_k: int | None
    temperature: float

    def __call__(self, full_logits: Logits) -> Logits:
        """Set what falls away to -inf, float[B W V]."""
        logits = full_logits
        if self.top_p is not None:
            logits = logits.masked_fill(self._beyond_top_p(logits, self.top_p), -float("inf"))
        if self.top_k is not None:
            last = logits.topk(min(self.top_k, logits.shape[-1]), dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < last, -float("inf"))
        keep = self.vocabulary.best(full_logits).unsqueeze(-1)
        return logits.scatter(-1, keep, full_logits.gather(-1, keep))

    def _beyond_top_p(self, logits: Logits, top_p: float) -> Tensor:
        ordered, order = (logits.float() / (self.temperature or 1.0)).sort(dim=-1, descending=True, stable=True)
        before = pad(ordered.softmax(-1).cumsum(-1)[..., :-1], (1, 0))
        return torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before > top_p)
