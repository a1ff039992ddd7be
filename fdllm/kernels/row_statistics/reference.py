"""Row statistics in plain torch: float32, one log-sum-exp shared by all of them.

No softmax of the whole row is stored except for `entropy`, whose sum needs every term.
"""

from dataclasses import dataclass

from torch import Tensor

from fdllm.sampling import Greedy, Sample
from fdllm.signals import entropy_of, margin_of, probability_of, scores_and_total
from fdllm.types import Logits, Tokens


@dataclass(frozen=True)
class RowStatistics:
    """Compute the wanted statistics of each row of logits.

    Attributes:
        draw: picks the candidate from the logits (and a noise key when it samples).
        reads: names of the values given besides the logits: `noise` when `draw` samples,
            `tokens` when `current_probability` is wanted.
        wanted: names to compute, of `row_statistics.NAMES`, in the order they are returned.

    """

    draw: Greedy | Sample
    reads: tuple[str, ...]
    wanted: tuple[str, ...]

    def __call__(self, logits: Logits, *values: Tensor) -> tuple[Tensor, ...] | Tensor:
        """Compute.

        Args:
            logits: float[B W V] in any dtype.
            values: int64[B W] for each name of `reads`.

        Returns:
            One tensor [B W] per name of `wanted`: candidate int64, the others float32; the
            tensor itself where one is wanted.

        """
        also = dict(zip(self.reads, values, strict=True))
        scores, total = scores_and_total(logits)
        # float32 holds every half-precision logit, so the same id is drawn, several times faster on a CPU
        candidate = self.draw(scores, also["noise"]) if isinstance(self.draw, Sample) else self.draw(scores)
        found = tuple(self._one(name, candidate, also, scores, total) for name in self.wanted)
        return found if len(found) > 1 else found[0]

    def _one(self, name: str, candidate: Tokens, also: dict[str, Tensor], scores: Tensor, total: Tensor) -> Tensor:
        match name:
            case "candidate":
                return candidate
            case "confidence":
                return probability_of(candidate, scores, total)
            case "current_probability":
                return probability_of(also["tokens"], scores, total)
            case "margin":
                return margin_of(scores, total)
            case _:
                return entropy_of(scores, total)
