"""A grid as a file: a task, how it is timed, and the rows of a table, each a decoder.

A grid is a decoding config with more tables. `[model]`, `[generate]`, `[cache]`, `[policy]` ... hold
for every row; a row has tables of its own that add to them. `[axes]` repeats all rows for every
value of a key, a row's `sweep` repeats that row.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from fdllm.component import SettingError, Settings, explain
from fdllm.config import PARTS
from fdllm.config_files import read_table

BUILT_IN = files("fdllm.grids") / "builtin"
TABLES = ("model", "generate", *PARTS)


class Bench(Settings):
    """How much is measured."""

    problems: int | None = Field(None, ge=1, description="problems of the task, the first ones; unset: all")
    batch_size: int = Field(1, ge=1, description="problems decoded together")
    samples: int = Field(
        5,
        ge=1,
        description="parts the problems are dealt into; speed is the median of the parts, its spread their range",
    )
    warm_up: int = Field(1, ge=0, description="decodes of every row before the first that counts")
    threads: int | None = Field(None, ge=1, description="threads of torch on a CPU; unset: as torch chooses")


class Decoding(Settings):
    """The tables of a decoding config as they stand in a file, unchecked."""

    model: dict[str, Any] = {}
    generate: dict[str, Any] = {}
    schedule: Any = None
    cache: Any = None
    policy: Any = None
    temperature: Any = None
    attention: Any = None

    def tables(self) -> dict[str, Any]:
        """Give those that are there."""
        return {name: getattr(self, name) for name in TABLES if name in self.model_fields_set}


class Row(Decoding):
    """One decoder, or with `sweep` several: tables as in a config file, or a command."""

    name: str = Field(min_length=1, description="how tables and plots call it; unique in the grid")
    sweep: dict[str, list[Any]] = Field(
        {}, description="keys such as policy.threshold, and the values they take in turn"
    )
    command: list[str] | None = Field(
        None, min_length=1, description="an external decoder, a program and its arguments, instead of fdllm"
    )
    options: dict[str, Any] = Field({}, description="what the external decoder is told beside model and generate")

    @field_validator("sweep", mode="before")
    @classmethod
    def _flat(cls, given: Any) -> Any:
        return flat(given, TABLES)

    @field_validator("options")
    @classmethod
    def _plain(cls, given: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(given)
        except TypeError as error:
            raise ValueError(f"wanted values that JSON has, got {given!r}: {error}") from None
        return given

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        tables = [*self.tables()]
        if self.command and (tables or self.sweep):
            raise ValueError(
                f"{self.name}: an external decoder takes `options`, not {(tables or ['sweep'])[0]}; drop it"
            )
        if self.options and not self.command:
            raise ValueError(f"{self.name}: options are for an external decoder; add `command`, or drop them")
        return self


class Grid(Decoding):
    """What a grid file says, its keys checked; `fdllm.grids.cells` builds what they name."""

    title: str = ""
    task: dict[str, Any] = {"name": "gsm-mini"}
    bench: Bench = Bench()
    axes: dict[str, list[Any]] = {}
    rows: list[Row] = Field(min_length=1)

    @field_validator("task", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @field_validator("axes", mode="before")
    @classmethod
    def _flat(cls, given: Any) -> Any:
        return flat(given, ("task", *TABLES))

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [row.name for row in self.rows]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"rows: {name!r} is the name of two rows; give each its own")
        return self

    @model_validator(mode="after")
    def _set_once(self) -> Self:
        for path in self.axes:
            table, _, key = path.partition(".")
            for row in self.rows:
                own = row.tables().get(table)
                named = key == "name" and isinstance(own, str)
                if named or path in row.sweep or (isinstance(own, dict) and key in own):
                    raise ValueError(f"axes: {path}: row {row.name!r} sets it as well; drop one of the two")
        return self

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> Self:
        """Check tables as they stand in a file.

        Raises:
            SettingError: one line for each wrong key or value.

        """
        try:
            return cls.model_validate(dict(tables))
        except ValidationError as error:
            raise SettingError(explain(error, "", cls)) from None

    @classmethod
    def read(cls, name: str) -> Self:
        """Read a file, or a grid that comes with fdllm.

        Args:
            name: a path that ends in .toml, .yaml or .json, or a name of `built_in`.

        Raises:
            SettingError: no such grid; a wrong key or value, with the file and the key.

        """
        path = Path(name)
        if not path.suffix and not path.is_file():
            if name not in built_in():
                raise SettingError(f"no grid {name!r}; give a file, or one of {', '.join(built_in())}")
            path = Path(str(BUILT_IN / f"{name}.toml"))
        tables = read_table(path)
        try:
            return cls.from_dict(tables)
        except ValueError as error:
            raise SettingError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def built_in() -> list[str]:
    """Name the grids that come with fdllm."""
    return sorted(each.name.removesuffix(".toml") for each in BUILT_IN.iterdir() if each.name.endswith(".toml"))


def flat(given: Any, tables: tuple[str, ...], above: str = "") -> Any:
    """Write nested tables of lists as one of `table.key`.

    Raises:
        ValueError: a key of no such table, or a value that is no list.

    """
    if not isinstance(given, dict):
        return given
    found: dict[str, list[Any]] = {}
    for key, value in given.items():
        path = f"{above}{key}"
        table, dot, _ = path.partition(".")
        if table not in tables:
            raise ValueError(f"{path}: no such table; known: {', '.join(tables)}")
        if isinstance(value, dict):
            found |= flat(value, tables, f"{path}.")
        elif isinstance(value, list) and value and dot:
            found[path] = value
        else:
            raise ValueError(f"{path}: wanted a list of values for table.key, such as policy.threshold, got {value!r}")
    return found
