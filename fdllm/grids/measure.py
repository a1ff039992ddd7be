"""Measure the cells of a grid, those of a group in turn, into a journal that a killed run continues."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from fdllm.component import SettingError
from fdllm.grids.cells import Cell
from fdllm.grids.entrants import Entrant, entered, ours
from fdllm.grids.grid import Bench
from fdllm.models.denoiser import Denoiser
from fdllm.prompts import PromptError, rows_of
from fdllm.tasks.base import Example

Ids = list[list[list[int]]]
"""Prompts as ids, batch by batch."""


@dataclass(frozen=True)
class Taken:
    """What one cell made of one batch: a line of the journal.

    Attributes:
        cell: its name.
        batch: index of the batch.
        ids: ids of the problems.
        texts: what was decoded.
        right: whether the scorer takes each for right.
        tokens: visible tokens of each.
        nfe: forwards each took part in, or None where an external decoder does not say.
        seconds: wall time of the decode.
        refresh_seconds: time in refresh forwards, or None for an external decoder.
        peak_memory: bytes held at most, or None.
        record: what decoded, in the line of the first batch.

    """

    cell: str
    batch: int
    ids: list[str]
    texts: list[str]
    right: list[bool]
    tokens: list[int]
    nfe: list[int] | None
    seconds: float
    refresh_seconds: float | None
    peak_memory: int | None
    record: dict[str, str] | None


@dataclass(frozen=True)
class Group:
    """Cells that differ in their rows alone, on the same problems in the same batches."""

    cells: list[Cell]
    batches: list[list[Example]]

    @classmethod
    def of(cls, cells: list[Cell], bench: Bench) -> "Group":
        """Ask the task for its problems.

        Raises:
            ValueError: the task cannot give them.

        """
        examples = cells[0].task.examples(bench.problems)
        if not examples:
            raise SettingError(f"task: {cells[0].task!r} has no problem; give one that has")
        size = bench.batch_size
        return cls(cells, [examples[at : at + size] for at in range(0, len(examples), size)])

    def digest(self) -> str:
        """Give a fingerprint of the problems and their order."""
        told = [(each.id, each.prompt, each.reference) for batch in self.batches for each in batch]
        return sha256(json.dumps(told).encode()).hexdigest()[:16]

    def turns(self) -> Iterator[tuple[int, Cell]]:
        """Give batches and cells in the order they are measured: each batch by every cell, another one first each time.

        Neighbors in time have the same problems, so the drift of a machine meets all cells alike.
        """
        for batch in range(len(self.batches)):
            first = batch % len(self.cells)
            for cell in self.cells[first:] + self.cells[:first]:
                yield batch, cell


def check(group: Group, models: Mapping[str, Denoiser]) -> None:
    """Read every prompt and compile every decoder of fdllm, and keep none.

    Args:
        group: the group.
        models: the model of each cell to check, by the cell's name.

    Raises:
        ValueError: a prompt does not fit, or a decoder cannot be made; names the row.

    """
    cells = [cell for cell in group.cells if cell.name in models]
    _prompts(cells, group.batches, models)
    for cell in cells:
        if not cell.command:
            ours(cell, models[cell.name])


class Measurement:
    """A group being measured: models, decoders and prompts; entering it builds the decoders."""

    def __init__(self, group: Group, bench: Bench, models: Mapping[str, Denoiser]) -> None:
        """Read every prompt, before the first is decoded.

        Args:
            group: the group.
            bench: how much is measured.
            models: the model of each cell, by the cell's name.

        Raises:
            fdllm.prompts.PromptError: a prompt cannot be decoded; names row and problem.

        """
        self.group, self.bench, self.models = group, bench, models
        self.entrants: dict[str, Entrant] = {}
        self.prompts = _prompts(group.cells, group.batches, models)
        self.warm: set[str] = set()

    def __enter__(self) -> Self:
        """Build every decoder.

        Raises:
            ValueError, fdllm.external.ExternalError: one cannot be made; names the row.

        """
        with ExitStack() as stack:
            for cell in self.group.cells:
                self.entrants[cell.name] = stack.enter_context(entered(cell, self.models[cell.name]))
            self._started = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """End what was started."""
        self._started.__exit__(*error)

    def take(self, batch: int, cell: Cell) -> Taken:
        """Decode one batch with one cell; before its first one, some that do not count."""
        entrant, prompts, asked = self.entrants[cell.name], self.prompts[cell.name][batch], self.group.batches[batch]
        rows = [batch * self.bench.batch_size + at for at in range(len(prompts))]
        if cell.name not in self.warm:
            for _ in range(self.bench.warm_up):
                entrant.decode(prompts, rows)
            self.warm.add(cell.name)
        out = entrant.decode(prompts, rows)
        return Taken(
            cell=cell.name,
            batch=batch,
            ids=[each.id for each in asked],
            texts=out.texts,
            right=[cell.task.right(each, text) for each, text in zip(asked, out.texts, strict=True)],
            tokens=[len(row) for row in out.tokens],
            nfe=out.nfe,
            seconds=out.seconds,
            refresh_seconds=out.refresh_seconds,
            peak_memory=out.peak_memory,
            record=None if batch else entrant.record(),
        )


def _prompts(cells: list[Cell], batches: list[list[Example]], models: Mapping[str, Denoiser]) -> dict[str, Ids]:
    """Read the prompts of each cell, by its name; once for cells with the same model and length."""
    read: dict[tuple[int, int], Ids] = {}
    found = {}
    for cell in cells:
        model, num_new = models[cell.name], cell.config.generate.max_new_tokens
        key = (id(model), num_new)
        if key not in read:
            read[key] = [[_ids(cell, each, model, num_new) for each in batch] for batch in batches]
        found[cell.name] = read[key]
    return found


def _ids(cell: Cell, example: Example, model: Denoiser, num_new: int) -> list[int]:
    prompt = example.prompt
    try:
        (ids,) = rows_of(prompt if isinstance(prompt, str) else [prompt], None, model, num_new)
    except PromptError as error:
        raise PromptError(f"row {cell.name!r}: problem {example.id}: {error}") from None
    return ids
