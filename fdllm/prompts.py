"""Prompts in every form a user may have them, as one list of ids per row, checked."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fdllm.chat import ChatError, Conversation, ids_of, is_conversation, is_unicode
from fdllm.models.denoiser import Denoiser

Prompts = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | Conversation | Sequence[Conversation] | Tensor


class PromptError(ValueError):
    """A prompt cannot be decoded; the message says which and why."""


def rows_of(prompts: Prompts, attention_mask: Tensor | None, denoiser: Denoiser, num_new: int) -> list[list[int]]:
    """Read prompts as ids.

    Args:
        prompts: text, several texts, a conversation, several, ids of one prompt, ids of several
            (ragged), or int64[B P].
        attention_mask: for a tensor of ids, which of them count, [B P]; padding on either side.
        denoiser: its tokenizer reads text, its spec bounds ids and length.
        num_new: slots that follow each prompt.

    Raises:
        PromptError: text without a tokenizer, an empty prompt, ids that are none, a canvas over the context.

    """
    if attention_mask is not None and not isinstance(prompts, Tensor):
        raise PromptError("attention_mask: goes with a tensor of ids; lists of ids need none")
    rows = _from_tensor(prompts, attention_mask) if isinstance(prompts, Tensor) else _from_list(prompts, denoiser)
    if not rows:
        raise PromptError("prompts: there are none")
    for index, row in enumerate(rows):
        _checked(row, f"prompts[{index}]", denoiser, num_new)
    return rows


def _from_tensor(ids: Tensor, mask: Tensor | None) -> list[list[int]]:
    if ids.dim() not in (1, 2) or ids.is_floating_point() or ids.dtype == torch.bool:
        raise PromptError(f"prompts: wanted integer ids [B, P], got {ids.dtype} of shape {tuple(ids.shape)}")
    keep = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    if not isinstance(keep, Tensor) or keep.shape != ids.shape:
        got = tuple(keep.shape) if isinstance(keep, Tensor) else type(keep).__name__
        raise PromptError(f"attention_mask: wanted a tensor of the shape of the ids {tuple(ids.shape)}, got {got}")
    if ids.dim() == 1:
        ids, keep = ids[None], keep[None]
    return [_unpadded(row, real.bool(), index) for index, (row, real) in enumerate(zip(ids, keep, strict=True))]


def _unpadded(ids: Tensor, real: Tensor, index: int) -> list[int]:
    at: list[int] = real.nonzero().flatten().tolist()
    if at and at[-1] - at[0] >= len(at):
        raise PromptError(f"attention_mask[{index}]: has a hole; padding stands before or behind the ids")
    return [int(i) for i in ids[real]]


def _from_list(prompts: Any, denoiser: Denoiser) -> list[list[int]]:
    if isinstance(prompts, str):
        prompts = [prompts]
    if not isinstance(prompts, Sequence) or isinstance(prompts, bytes):
        raise PromptError(
            f"prompts: wanted text, texts, ids, lists of ids, a conversation or several, got {type(prompts).__name__}"
        )
    if prompts and all(isinstance(each, str) for each in prompts):
        return [_encoded(text, f"prompts[{index}]", denoiser) for index, text in enumerate(prompts)]
    if is_conversation(prompts):
        return [_chat(prompts, "prompts", denoiser)]
    if prompts and all(is_conversation(each) for each in prompts):
        return [_chat(each, f"prompts[{index}]", denoiser) for index, each in enumerate(prompts)]
    if prompts and all(is_whole(each) for each in prompts):
        return [list(prompts)]
    wanted = next(iter(map(_kind, prompts)), None) or "a list of ids"
    for index, row in enumerate(prompts):
        if _kind(row) != wanted:
            raise PromptError(f"prompts[{index}]: wanted {wanted} like the others, got {row!r}")
    return [list(row) for row in prompts]


def _kind(prompt: Any) -> str | None:
    """Say what one of several prompts is; None for what is none."""
    if isinstance(prompt, str):
        return "text"
    if is_conversation(prompt):
        return "a conversation"
    return "a list of ids" if isinstance(prompt, Sequence) and all(is_whole(i) for i in prompt) else None


def is_whole(value: Any) -> bool:
    """Say whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _encoded(text: str, where: str, denoiser: Denoiser) -> list[int]:
    if denoiser.tokenizer is None:
        raise PromptError(f"prompts: {denoiser.name} has no tokenizer, so text cannot be read; give ids")
    if not is_unicode(text):
        raise PromptError(f"{where}: is no valid text (UTF-8, no lone surrogates); got {text[:40]!r}")
    return list(denoiser.tokenizer(text).input_ids)


def _chat(messages: Any, where: str, denoiser: Denoiser) -> list[int]:
    try:
        return ids_of(messages, denoiser)
    except ChatError as error:
        raise PromptError(f"{where}: {error}") from None


def _checked(row: list[int], where: str, denoiser: Denoiser, num_new: int) -> None:
    spec = denoiser.spec
    if not row:
        raise PromptError(f"{where}: is empty; give at least one id")
    # where the spec does not say how many there are, what int64 holds
    size = spec.vocab_size or 2**63
    wrong = [i for i in row if not 0 <= i < max(size, (spec.mask_id or 0) + 1)]
    if wrong:
        raise PromptError(f"{where}: ids {wrong[:5]} are outside the vocabulary [0, {size})")
    if spec.context is not None and len(row) + num_new > spec.context:
        raise PromptError(
            f"{where}: {len(row)} ids and max_new_tokens = {num_new} make {len(row) + num_new} slots, over the "
            f"model's context of {spec.context}; shorten the prompt or lower generate.max_new_tokens"
        )
