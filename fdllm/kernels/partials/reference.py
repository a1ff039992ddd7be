"""Partials in plain torch: of one stretch, combined, and finished to statistics.

The sums of two stretches are brought to the larger top before they are added, so nothing
overflows (the online softmax of Milakov and Gimelshein 2018, arXiv:1805.02867).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fdllm.kernels.partials import Partials
from fdllm.sampling import NOBODY, Greedy, Sample


def partials_of(
    scores: Tensor, draw: Greedy | Sample, also: dict[str, Tensor], wanted: Sequence[str], first: int = 0
) -> Tensor:
    """Compute the partials of one stretch.

    Args:
        scores: logits of the ids from `first` on, float32[R T].
        draw: how the candidate is drawn.
        also: `noise` where `draw` samples and `tokens` where `current_probability` is wanted, int64[R].
        wanted: which statistics are to come of it.
        first: the id of the first column.

    Returns:
        float32[8 R], as `Partials`.

    """
    top = scores.amax(-1)
    # where every id is at -inf nothing is added up
    logs = scores - top.masked_fill(top == -torch.inf, 0).unsqueeze(-1)
    weights = logs.exp()
    if isinstance(draw, Sample):
        best, candidate = draw.highest(scores, also["noise"], first)
        score = _at(scores, candidate, first)
    else:
        best, candidate = draw.highest(scores, first)
        score = best
    return torch.stack(
        Partials(
            top=top,
            total=weights.sum(-1),
            best=best,
            candidate=candidate.float(),
            score=score,
            second=_second(scores) if "margin" in wanted else top,
            tilt=(weights * logs).nan_to_num_(nan=0.0).sum(-1) if "entropy" in wanted else top,
            current=_at(scores, also["tokens"], first) if "current_probability" in wanted else top,
        )
    )


def _second(scores: Tensor) -> Tensor:
    """Find the largest logit but one, -inf where there is one id."""
    if scores.shape[-1] == 1:
        return torch.full_like(scores[:, 0], -torch.inf)
    return scores.topk(2, dim=-1).values[:, 1]


def _at(scores: Tensor, ids: Tensor, first: int) -> Tensor:
    """Look up the logit of one id per row, -inf where it is of another stretch."""
    column = ids.unsqueeze(-1) - first
    inside = (column >= 0) & (column < scores.shape[-1])
    return scores.gather(-1, column.where(inside, 0)).masked_fill(~inside, -torch.inf).squeeze(-1)


def combine(partials: Tensor) -> Tensor:
    """Combine stretches, float32[8 R S] -> float32[8 R 1]; the result combines with others in turn."""
    p = Partials(*partials)
    top = p.top.amax(-1, keepdim=True)
    lag = (p.top - top).masked_fill(p.top == -torch.inf, 0)
    share = lag.exp()
    best = p.best.amax(-1, keepdim=True)
    candidate = p.candidate.masked_fill(p.best < best, NOBODY).amin(-1, keepdim=True)
    tops = torch.cat([p.top, p.second], -1).topk(2, dim=-1).values
    return torch.stack(
        Partials(
            top=top,
            total=(p.total * share).sum(-1, keepdim=True),
            best=best,
            candidate=candidate,
            score=p.score.masked_fill(p.candidate != candidate, -torch.inf).amax(-1, keepdim=True),
            second=tops[:, 1:],
            tilt=((p.tilt + lag * p.total) * share).sum(-1, keepdim=True),
            current=p.current.amax(-1, keepdim=True),
        )
    )


def finish(partials: Tensor, wanted: Sequence[str]) -> tuple[Tensor, ...]:
    """Give the statistics of rows from all their partials, float32[8 R S]: one tensor [R] per name of `wanted`."""
    p = Partials(*combine(partials).squeeze(-1))
    return tuple(_statistic(name, p) for name in wanted)


def _statistic(name: str, p: Partials) -> Tensor:
    match name:
        case "candidate":
            return p.candidate.long()
        case "confidence":
            return (p.score - p.top).exp() / p.total
        case "current_probability":
            return (p.current - p.top).exp() / p.total
        case "margin":
            return (1 - (p.second - p.top).exp()) / p.total
        case _:
            return p.total.log() - p.tilt / p.total
