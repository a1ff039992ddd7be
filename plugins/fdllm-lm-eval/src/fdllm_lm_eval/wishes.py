"""What a task wishes of a text: generation arguments of the harness as settings of a decoder."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lm_eval.models.utils import normalize_gen_kwargs

from fdllm.component import SettingError
from fdllm.decoder import Decoder

UNSAID = 2**62
"""The length of a text whose task says none."""
KNOWN = ("until", "do_sample", "temperature", "max_gen_toks", "top_p", "top_k")


class Wish(NamedTuple):
    """Settings that stand above those of the config; texts of one wish share a decoder.

    Attributes:
        max_gen_toks: most tokens of a text; None: as many as the config says.
        temperature: 0 without sampling; None: as the config says.
        top_p, top_k: bounds of sampling; None: as the config says.

    """

    max_gen_toks: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None


def read(given: Mapping[str, Any]) -> tuple[Wish, tuple[str, ...]]:
    """Read the generation arguments of a request.

    Returns:
        The settings, and the strings that end a text.

    Raises:
        SettingError: an argument that no decoder of fdllm has.

    """
    # one beam is no beam search
    known = normalize_gen_kwargs(
        {key: value for key, value in given.items() if (key, value) != ("num_beams", 1)}, UNSAID
    )
    if unknown := sorted(set(known) - set(KNOWN)):
        raise SettingError(
            f"gen_kwargs.{unknown[0]}: no such key, got {known[unknown[0]]!r}; known keys: {', '.join(KNOWN)}"
        )
    temperature = None
    if {"do_sample", "temperature"} & set(given):
        temperature = float(known.get("temperature", 1.0 if known["do_sample"] else 0.0))
    most = known["max_gen_toks"]
    if most != UNSAID and most < 1:
        raise SettingError(f"gen_kwargs.max_gen_toks: wanted at least 1, got {most}")
    # they would change the confidence of a greedy decoder, whose tokens they are not meant to change
    bounds = {key: None if temperature == 0 else known.get(key) for key in ("top_p", "top_k")}
    return Wish(None if most == UNSAID else most, temperature, **bounds), tuple(filter(None, known["until"]))


def cut(text: str, until: Sequence[str]) -> str:
    """Cut a text before the first of some strings."""
    return text[: min((at for at in map(text.find, until) if at >= 0), default=len(text))]


def batches(decoder: Decoder, prompts: Mapping[int, list[int]], size: int) -> Iterator[list[int]]:
    """Put prompts into batches of up to `size` that may be decoded together, the longest first.

    Args:
        decoder: says which may.
        prompts: ids by the number of their request.
        size: most prompts of a batch.

    Yields:
        Numbers of requests.

    """
    unfilled: list[list[int]] = []
    for number in sorted(prompts, key=lambda number: -len(prompts[number])):
        fitting = (batch for batch in unfilled if decoder.together([prompts[batch[0]], prompts[number]]))
        batch = next(fitting, [])
        if not batch:
            unfilled.append(batch)
        batch.append(number)
        if len(batch) == size:
            unfilled.remove(batch)
            yield batch
    yield from unfilled
