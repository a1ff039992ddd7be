"""Several processes that share a model: each decodes every prompt, the first one prints and writes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import distributed

from fdllm.cli.output import Output
from fdllm.cli.prompts import Prompt
from fdllm.component import SettingError
from fdllm.models.denoiser import Denoiser


class Listener:
    """The output file as the other processes see it: they know how much of it is done, and write nothing."""

    def __init__(self, done: int) -> None:
        """Hold the number of rows that were there."""
        self.done = done

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        """Close nothing."""

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Leave the rows to the first process."""


def first(model: Denoiser) -> bool:
    """Say whether this process is the one that prints and writes."""
    return model.tp == 1 or distributed.get_rank() == 0


def opened(model: Denoiser, path: Path, record: Mapping[str, Any], prompts: list[Prompt]) -> Output | Listener:
    """Open the output file in the first process, and tell the others how much of it is done, or what is wrong.

    Raises:
        SettingError: it cannot be written or belongs to another run; in every process alike.

    """
    if model.tp == 1:
        return Output(path, record, prompts)
    journal, said = _attempt(path, record, prompts) if first(model) else (None, None)
    told = [said]
    distributed.broadcast_object_list(told, src=0)
    if isinstance(told[0], str):
        raise SettingError(told[0])
    return journal or Listener(int(told[0] or 0))


def _attempt(path: Path, record: Mapping[str, Any], prompts: list[Prompt]) -> tuple[Output | None, int | str]:
    try:
        journal = Output(path, record, prompts)
    except SettingError as error:
        return None, str(error)
    return journal, journal.done
