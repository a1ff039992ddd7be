"""The log-likelihood of an answer under a masked diffusion model, from random masks over the answer.

Source: Nie et al. 2025, LLaDA, arXiv:2502.09992, equation 6 and algorithm 3; compared with
get_log_likelihood.py of ML-GSAI/LLaDA b7e6c35. Of L tokens, l are masked, l from 1 to L and then the
l tokens all equally likely; L / l times the summed log-probability of the masked tokens is an
unbiased estimate of a lower bound. As there, l is spread evenly over the samples. Where we differ:
every l is exactly as likely as another, while the published code rounds halves to even numbers and so
favors some; one spread goes over all samples, so batches do not matter; and where an answer has no
more masks than there are samples, each is taken once with its weight, and nothing is left to chance.
"""

from collections.abc import Iterator
from hashlib import sha256
from math import comb

import torch
from torch import Tensor

from fdllm import noise
from fdllm.component import SettingError
from fdllm.models.denoiser import Denoiser
from fdllm.models.spec import Spec
from fdllm.sampling import Vocabulary
from fdllm_lm_eval.settings import Options


def check(model: Denoiser) -> None:
    """Refuse a model whose likelihood these masks do not measure.

    Raises:
        SettingError: its open slots hold no mask id, or what it predicts depends on where a window ends.

    """
    if model.spec.noise != "mask" or model.spec.pattern == "causal-prefix":
        raise SettingError(
            f"model: the likelihood of an answer is estimated by masking it, and {model.name} has noise = "
            f"{model.spec.noise!r}, pattern = {model.spec.pattern!r}; choose tasks that generate, or a model of "
            "noise 'mask' and pattern 'full' or 'block-causal'"
        )


@torch.inference_mode()
def log_likelihood(model: Denoiser, prefix: list[int], answer: list[int], options: Options, seed: int) -> float:
    """Estimate log p(answer | prefix) in nats, from below.

    Args:
        model: what predicts masked tokens.
        prefix: ids before the answer, at least one.
        answer: ids to score.
        options: number of masks.
        seed: of the masks. They depend on the prefix besides, so answers to one question share them.

    """
    # a model of blocks attends to none behind, so their likelihoods multiply
    parts = pieces(model.spec, len(prefix), len(answer))
    return sum(
        (_one(model, [*prefix, *answer[: part.start]], [answer[i] for i in part], options, seed) for part in parts), 0.0
    )


@torch.inference_mode()
def is_greedy(model: Denoiser, prefix: list[int], answer: list[int]) -> bool:
    """Say whether the answer is what greedy decoding gives in as many slots, the most confident one a step."""
    return all(
        _decodes(model, [*prefix, *answer[: part.start]], [answer[i] for i in part])
        for part in pieces(model.spec, len(prefix), len(answer))
    )


def pieces(spec: Spec, begin: int, length: int) -> Iterator[range]:
    """Cut an answer that begins at slot `begin` where the model's blocks end; one whole where all slots see all."""
    size = spec.block_length if spec.pattern == "block-causal" else begin + length + 1
    edges = [begin, *range((begin // size + 1) * size, begin + length, size), begin + length]
    return (range(a - begin, b - begin) for a, b in zip(edges, edges[1:], strict=False) if a < b)


def masks(length: int, samples: int, key: str, seed: int) -> tuple[Tensor, Tensor]:
    """Choose which tokens are masked, and what the summed log-probabilities of each choice count.

    Args:
        length: tokens of the answer.
        samples: most masks.
        key: what the draw depends on beside the seed.
        seed: any int.

    Returns:
        bool[m length] and float64[m]: all masks where there are at most `samples`, else as many drawn.

    """
    if 2**length - 1 <= samples:
        every = (torch.arange(1, 2**length)[:, None] >> torch.arange(length)) & 1 == 1
        # l is one of `length`, the mask one of comb(length, l), the sum times length / l
        return every, torch.tensor([1 / (n * comb(length, n)) for n in every.sum(-1).tolist()], dtype=torch.float64)
    row = torch.tensor([[int(sha256(key.encode()).hexdigest()[:8], 16)]])
    keys = noise.keys(seed, row, torch.arange(samples + 1)[None], 0)[0]
    first = noise.random_ids(keys[-1:], length)
    counts = 1 + (first + torch.arange(samples) * length // samples) % length
    order = noise.uniform(keys[:-1, None], torch.arange(length)).argsort(stable=True, dim=-1)
    return order < counts[:, None], length / counts.double() / samples


def _one(model: Denoiser, prefix: list[int], answer: list[int], options: Options, seed: int) -> float:
    chosen, weights = masks(len(answer), options.mc_samples, str(prefix), seed)
    told = torch.tensor(answer, device=model.device)
    total = 0.0
    for masked, weight in zip(
        torch.split(chosen, options.mc_batch), torch.split(weights, options.mc_batch), strict=True
    ):
        shown = told.masked_fill(masked.to(model.device), _mask_id(model))
        each = _predicted(model, prefix, shown).log_softmax(-1)
        right = each.gather(-1, told.expand(len(shown), -1)[..., None])[..., 0].cpu().double()
        total += float(weight @ right.masked_fill(~masked, 0).sum(-1))
    return total


def _decodes(model: Denoiser, prefix: list[int], answer: list[int]) -> bool:
    legal = Vocabulary(model.spec.mask_id, model.spec.vocab_size)
    shown = torch.full((len(answer),), _mask_id(model), device=model.device)
    still_open = torch.ones_like(shown, dtype=torch.bool)
    for _ in answer:
        confidence, ids = legal.highest(_predicted(model, prefix, shown[None])[0].softmax(-1))
        slot = int(confidence.masked_fill(~still_open, -1).argmax())
        # what is set stays, so the first wrong one decides
        if int(ids[slot]) != answer[slot]:
            return False
        shown[slot], still_open[slot] = ids[slot], False
    return True


def _predicted(model: Denoiser, prefix: list[int], shown: Tensor) -> Tensor:
    """Give the logits that predict the answer's slots, float32[m L V], for answers int64[m L] as they are shown."""
    before = torch.tensor(prefix, device=model.device).expand(len(shown), -1)
    begin = len(prefix) - model.spec.shift
    return model.logits(torch.cat([before, shown], -1))[:, begin : begin + shown.shape[1]].float()


def _mask_id(model: Denoiser) -> int:
    assert model.spec.mask_id is not None, "check() lets only masked models pass"
    return model.spec.mask_id
