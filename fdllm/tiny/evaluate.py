"""Measures the tiny model while it trains: copying and arithmetic given clean text, and exact match when decoding."""

from itertools import groupby, islice

import torch
from tokenizers import Tokenizer
from torch import Tensor

from fdllm.tiny.masks import DIGIT, NAME, NOUN, class_of, id_of
from fdllm.tiny.model import Tiny
from fdllm.tiny.problems import Problem, answer_of, problems
from fdllm.tiny.tokenizer import EOS_ID, MASK_ID


def held_out(count: int) -> list[Problem]:
    """Draw the problems progress is measured on; a final measurement uses another seed."""
    return list(islice(problems("progress", "test"), count))


@torch.no_grad()
def copying(model: Tiny, tokenizer: Tokenizer, count: int) -> dict[str, float]:
    """Measure the share of right names, nouns and results, each masked alone after clean text."""
    classes = torch.from_numpy(class_of(tokenizer))
    right = {"name": [0, 0], "noun": [0, 0], "result": [0, 0]}
    for problem in held_out(count):
        prompt, text = (tokenizer.encode(part).ids for part in (problem.question, problem.text))
        ids = torch.tensor([prompt + text + [EOS_ID] * 24])
        answer = torch.arange(ids.shape[1]) >= len(prompt)
        for what, kind in (("name", NAME), ("noun", NOUN)):
            _count(model, ids, (classes[ids[0]] == kind) & answer, right[what])
        place = torch.arange(ids.shape[1])
        for equals in (ids[0] == id_of(tokenizer, "=")).nonzero()[:, 0].tolist():
            end = next(i for i in range(equals + 1, len(place)) if classes[ids[0, i]] != DIGIT)
            open_after = torch.where(place > end, MASK_ID, ids)
            _count(model, open_after, (place > equals) & (place < end), right["result"], whole=True)
    return {what: good / max(1, total) for what, (good, total) in right.items()}


def _count(model: Tiny, ids: Tensor, masked: Tensor, right: list[int], whole: bool = False) -> None:
    if masked.any():
        hits = _argmax(model, torch.where(masked, MASK_ID, ids))[0, masked] == ids[0, masked]
        right[0] += int(hits.all()) if whole else int(hits.sum())
        right[1] += 1 if whole else int(masked.sum())


def _argmax(model: Tiny, ids: Tensor) -> Tensor:
    device = model.wte.weight.device
    return model.head(model(ids.to(device))).argmax(-1).cpu()


def exact_match(model: Tiny, tokenizer: Tokenizer, chosen: list[Problem], length: int = 96, block: int = 32) -> int:
    """How many problems are answered right at one token per step; prompts of equal length are decoded together."""
    encoded = [(tokenizer.encode(problem.question).ids, problem) for problem in chosen]
    encoded.sort(key=lambda pair: len(pair[0]))
    right = 0
    for _, group in groupby(encoded, lambda pair: len(pair[0])):
        prompts, asked = zip(*group, strict=True)
        texts = tokenizer.decode_batch(generate(model, torch.tensor(prompts), length, block).tolist())
        right += sum(answer_of(text) == problem.answer for text, problem in zip(texts, asked, strict=True))
    return right


@torch.no_grad()
def generate(model: Tiny, prompts: Tensor, length: int, block: int) -> Tensor:
    """Decode block by block, one most confident token per step, until every row has ended.

    Args:
        model: the model.
        prompts: token ids, [B P].
        length: response positions, a multiple of `block`.
        block: positions per block.

    Returns:
        Response token ids, [B length]; blocks after the end are left as end tokens.
    """
    device = model.wte.weight.device
    start = prompts.shape[1]
    ids = torch.full((len(prompts), start + length), MASK_ID, device=device)
    ids[:, :start] = prompts.to(device)
    rows = torch.arange(len(ids), device=device)
    for low in range(start, start + length, block):
        for _ in range(block):
            window = ids[:, low : low + block]
            top = model.head(model(ids)[:, low : low + block]).float().softmax(-1).max(-1)
            best = torch.where(window == MASK_ID, top.values, -1.0).argmax(-1)
            window[rows, best] = top.indices[rows, best]
        if bool((ids[:, start : low + block] == EOS_ID).any(1).all()):
            break
    return torch.where(ids == MASK_ID, EOS_ID, ids)[:, start:]
