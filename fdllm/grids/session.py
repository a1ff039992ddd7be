"""A whole grid from its file to its table, in a folder that a killed run continues."""

import platform
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch

from fdllm.component import SettingError
from fdllm.grids.cells import Cell, groups
from fdllm.grids.grid import Grid
from fdllm.grids.lines import Line, lines
from fdllm.grids.measure import Group, Measurement, Taken, check
from fdllm.journal import Journal
from fdllm.models.denoiser import Denoiser

JOURNAL = "decodes.jsonl"


class Watcher(Protocol):
    """Who is told how far a session is."""

    def begin(self, name: str) -> None:
        """Learn what is decoded next."""

    def done(self, count: int) -> None:
        """Learn that so many more decodes are there."""

    def found(self, count: int) -> None:
        """Learn that so many were there already."""


class Session:
    """A grid, its cells and its problems, all checked.

    Attributes:
        total: decodes of the whole grid, a batch of problems by a row each.

    """

    def __init__(self, grid: Grid) -> None:
        """Build the cells and ask the tasks for their problems.

        Raises:
            ValueError: a setting is wrong or a task cannot be had; the message names the key.

        """
        self.grid = grid
        if grid.bench.threads:
            torch.set_num_threads(grid.bench.threads)
        cells = groups(grid)
        if any(cell.config.model.tp > 1 for group in cells for cell in group):
            raise SettingError("model.tp: a grid is measured in one process; drop it")
        self.groups = [Group.of(each, grid.bench) for each in cells]
        self.total = sum(len(group.cells) * len(group.batches) for group in self.groups)

    def record(self) -> dict[str, Any]:
        """Give what all results depend on: a run is continued only by one that has the same."""
        return {
            **machine({cell.config.model.device for group in self.groups for cell in group.cells}),
            "bench": self.grid.bench.model_dump(exclude={"samples"}),
            "problems": [group.digest() for group in self.groups],
            "cells": [cell.record() for group in self.groups for cell in group.cells],
        }

    def measure(self, out: Path | None, watcher: Watcher) -> list[list[Line]]:
        """Decode what is not there yet, and sum every group up.

        Args:
            out: folder of the journal; unless given, nothing is kept.
            watcher: is told of every decode.

        Raises:
            ValueError, fdllm.external.ExternalError: a model, a decoder or the folder cannot be used.

        """
        with ExitStack() as stack:
            journal = None if out is None else stack.enter_context(opened(out, self.record()))
            done = [Taken(**row) for row in journal.rows] if journal else []
            found = []
            models: dict[str, Denoiser] = {}
            for group in self.groups:
                turns = list(group.turns())
                taken, done = done[: len(turns)], done[len(turns) :]
                watcher.found(len(taken))
                if len(taken) < len(turns):
                    models = self._models(group, models)
                    for new in self._missing(group, models, turns[len(taken) :], watcher):
                        if journal:
                            journal.append([asdict(new)])
                        taken.append(new)
                        watcher.done(1)
                found.append(lines(group.cells, taken, self.grid.bench.samples))
            return found

    def _models(self, group: Group, before: dict[str, Denoiser]) -> dict[str, Denoiser]:
        """Load the models of a group, those of the group before again; the others are let go of."""
        wanted = {_model_key(cell) for cell in group.cells}
        kept = {key: model for key, model in before.items() if key in wanted}
        # the others are gone before another one takes their memory
        before.clear()
        for cell in group.cells:
            key = _model_key(cell)
            if key not in kept:
                kept[key] = cell.config.load_model()
                # also of the groups to come, so that nothing is decoded in vain
                for each in self.groups:
                    check(each, {cell.name: kept[key] for cell in each.cells if _model_key(cell) == key})
        return kept

    def _missing(
        self, group: Group, models: dict[str, Denoiser], turns: list[tuple[int, Cell]], watcher: Watcher
    ) -> Iterator[Taken]:
        by_cell = {cell.name: models[_model_key(cell)] for cell in group.cells}
        with Measurement(group, self.grid.bench, by_cell) as measurement:
            for batch, cell in turns:
                watcher.begin(cell.name)
                yield measurement.take(batch, cell)


def machine(devices: Iterable[str]) -> dict[str, str]:
    """Name the machine and the versions that times were taken on; `devices` as in `[model]`."""
    on_gpu = torch.cuda.is_available() and any(device != "cpu" for device in devices)
    parts = [torch.cuda.get_device_name()] if on_gpu else []
    parts += [_processor(), f"torch threads: {torch.get_num_threads()}"]
    versions = {name: version(name) for name in ("fdllm", "torch", "transformers")}
    return {"machine": ", ".join(parts), "python": platform.python_version(), **versions}


def opened(out: Path, record: dict[str, Any]) -> Journal:
    """Open the journal of a folder.

    Raises:
        SettingError: it is no folder, cannot be written, or holds another run.

    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"--out {out}: cannot be made a folder: {error.strerror}") from None
    keys = Taken.__dataclass_fields__
    return Journal(out / JOURNAL, record, "--out", keys)


def _model_key(cell: Cell) -> str:
    return repr(cell.config.model)


def _processor() -> str:
    """Name the processor: as Linux does, else as the platform module does."""
    try:
        found = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        found = []
    return found[0].partition(":")[2].strip() if found else platform.processor() or platform.machine()
