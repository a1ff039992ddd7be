"""The cells of a grid: every row at every point of the axes, each with its task and its decoder's config."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from fdllm.component import SettingError, build
from fdllm.config import DecodingConfig
from fdllm.grids.grid import Grid, Row
from fdllm.tasks.base import Task

Tables = dict[str, Any]
Point = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One line of the table.

    Attributes:
        name: unique in the grid: the row's name, and what its sweep and the axes set.
        row: the row's name.
        axes: keys of the axes and their values here. Cells with the same ones are a group: measured
            in turn, and compared with its first.
        sweep: keys of the row's sweep and their values here.
        task: what is asked.
        config: how fdllm decodes; for an external decoder, its model and lengths.
        command: the external decoder, empty for fdllm.
        options: what the external decoder is told beside.

    """

    name: str
    row: str
    axes: Point
    sweep: Point
    task: Task
    config: DecodingConfig
    command: tuple[str, ...]
    options: Point

    def record(self) -> dict[str, Any]:
        """Give all that its results depend on, as plain values."""
        return {
            "name": self.name,
            "task": repr(self.task),
            "config": self.config.to_dict(),
            "command": list(self.command),
            "options": dict(self.options),
        }


def groups(grid: Grid) -> list[list[Cell]]:
    """Build every cell, a list for each point of the axes.

    Raises:
        SettingError: a key or value is wrong; the message names the row and the key.

    """
    found = [[cell for row in grid.rows for cell in _cells(grid, row, point)] for point in _points(grid.axes)]
    names = [cell.name for group in found for cell in group]
    for name in names:
        if names.count(name) > 1:
            raise SettingError(f"rows: two are called {name!r} once sweeps and axes are written out; rename one")
    return found


def _points(axes: Mapping[str, list[Any]]) -> Iterator[Point]:
    """Give every combination of the values, the last key fastest."""
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _cells(grid: Grid, row: Row, point: Point) -> Iterator[Cell]:
    for swept in _points(row.sweep):
        tables = grid.tables()
        asked = _with(grid.task, {key.partition(".")[2]: at for key, at in point.items() if key.startswith("task.")})
        # an axis above the row, whose component may have the key
        for own in (row.tables(), _tables(point), _tables(swept)):
            tables = _merged(tables, own)
        try:
            task, config = build("tasks", asked, Task, "task"), DecodingConfig.from_dict(tables)
        except ValueError as error:
            raise SettingError("\n".join(f"row {row.name!r}: {line}" for line in str(error).splitlines())) from None
        name = ", ".join([row.name, *_labels(swept), *_labels(point)])
        yield Cell(name, row.name, point, swept, task, config, tuple(row.command or ()), row.options)


def _tables(point: Point) -> Tables:
    """Write `table.key` values as tables; those of the task are not a decoder's."""
    found: Tables = {}
    for path, value in point.items():
        table, _, key = path.partition(".")
        if table != "task":
            found.setdefault(table, {})[key] = value
    return found


def _merged(tables: Tables, own: Tables) -> Tables:
    """Add a row's tables; one that names a component stands in place of the one before."""
    return {**tables, **{name: _with(tables.get(name), table) for name, table in own.items()}}


def _with(before: Any, own: Any) -> Any:
    if not isinstance(own, dict) or "name" in own or before is None:
        return own
    return {**({"name": before} if isinstance(before, str) else before), **own}


def _labels(point: Point) -> Iterator[str]:
    """Write values as `threshold 0.9`; that of a component's name alone."""
    for path, value in point.items():
        table, _, key = path.partition(".")
        yield str(value) if key == "name" else f"{key.replace('_', ' ')} {value}"
