"""Signals: per-slot facts a policy may read, each a function of the logits of the window.

Statistics are float32 through log-sum-exp, whatever the dtype of the logits, over the whole
vocabulary. A signal exists in a step only if somebody reads it; those that one pass over the
logits can give together are fused (see `passes/fuse.py`) with the formulas below, so fusing
changes no bit. A plugin adds a signal through the entry-point group `fdllm.signals`.
"""

import torch
from torch import Tensor

from fdllm.types import Entropy, Logits, Probability, Tokens

PIECE = 2**18
"""Scores whose exponentials a CPU holds at a time, 1 MiB of them."""


def confidence(logits: Logits, candidate: Tokens) -> Probability:
    """Probability of the candidate at temperature 1, float32[B W]."""
    return probability_of(candidate, *scores_and_total(logits))


def current_probability(logits: Logits, tokens: Tokens) -> Probability:
    """Probability of the token that stands in the slot now, float32[B W]; at an open slot, of the mask id."""
    return probability_of(tokens, *scores_and_total(logits))


def margin(logits: Logits) -> Probability:
    """Largest probability minus the second largest, float32[B W]."""
    return margin_of(*scores_and_total(logits))


def entropy(logits: Logits) -> Entropy:
    """Entropy of the distribution in nats, float32[B W]."""
    return entropy_of(*scores_and_total(logits))


def scores_and_total(logits: Logits) -> tuple[Tensor, Tensor]:
    """Give the logits in float32[B W V] and their log-sum-exp, float32[B W 1]."""
    scores = logits.float()
    return scores, _log_sum_exp(scores)


def _log_sum_exp(scores: Tensor) -> Tensor:
    """Sum over the last dim; on a CPU a few rows at a time, whose exponentials stay in its cache (docs/log.md)."""
    rows = scores.flatten(0, -2)
    together = max(1, PIECE // rows.shape[-1])
    if scores.device.type != "cpu" or len(rows) <= together:
        return scores.logsumexp(-1, keepdim=True)
    parts = [part.logsumexp(-1, keepdim=True) for part in torch.split(rows, together)]
    return torch.cat(parts).view(*scores.shape[:-1], 1)


def probability_of(ids: Tokens, scores: Tensor, total: Tensor) -> Probability:
    """Probability of one id per slot, from `scores_and_total`."""
    return (scores.gather(-1, ids.unsqueeze(-1)) - total).exp().squeeze(-1)


def margin_of(scores: Tensor, total: Tensor) -> Probability:
    """Margin, from `scores_and_total`; 1 where the vocabulary has one id."""
    first, *second = (scores.topk(min(2, scores.shape[-1]), dim=-1).values - total).exp().unbind(-1)
    return first - second[0] if second else first


def entropy_of(scores: Tensor, total: Tensor) -> Entropy:
    """Entropy in nats, from `scores_and_total`; ids at -inf count nothing."""
    logs = scores - total
    return -(logs.exp() * logs).nan_to_num_(nan=0.0).sum(-1)
