"""Change a grid from the command line: `--set table.key=value`, in every row."""

from collections.abc import Iterable
from typing import Any

from fdllm import registry
from fdllm.component import SettingError
from fdllm.config import PARTS, split_override
from fdllm.grids.grid import TABLES, Grid

Tables = dict[str, Any]


def changed(grid: Grid, overrides: Iterable[str]) -> Grid:
    """Copy with some keys changed.

    Args:
        grid: the grid.
        overrides: `table.key=value` each, the value as in TOML or JSON. A key holds in every row,
            whatever the row says itself; a component's key in the rows whose component has it. A
            key that axes or a sweep vary is fixed, or given other values by a list. `task=name`
            and `policy=top-k` name a component, before any other key is set; where it is another
            one, what it has no key for is dropped with the component before.

    Raises:
        SettingError: not of that form, no such table or key.

    """
    asked = [split_override(override, (*PARTS, "task")) for override in overrides]
    for table, key, value in sorted(asked, key=lambda each: each[1] != "name"):
        tables = {**grid.model_dump(exclude_unset=True), "task": dict(grid.task)}
        if table == "task":
            _task(tables, key, value)
        elif table == "bench":
            tables["bench"] = {**tables.get("bench", {}), key: value}
        elif table not in TABLES:
            raise SettingError(f"{table}.{key}: no such table; known: task, bench, {', '.join(TABLES)}")
        elif not _vary(tables, f"{table}.{key}", value):
            _set(tables, table, key, value)
        grid = Grid.from_dict(tables)
    return grid


def _task(tables: Tables, key: str, value: Any) -> None:
    if key != "name":
        if not _vary(tables, f"task.{key}", value):
            tables["task"][key] = value
        return
    known = _fields("tasks", "task.name", value)
    if tables["task"].get("name") != value:
        tables["task"] = {"name": value}
        _keep(tables, "task", known)


def _vary(tables: Tables, path: str, value: Any) -> bool:
    """Give axes and sweeps of a key other values, or take them away; say whether that was all."""
    varied = [where for where in _varying(tables) if path in where]
    for where in varied:
        if isinstance(value, list):
            where[path] = value
        else:
            del where[path]
    return bool(varied) and isinstance(value, list)


def _varying(tables: Tables) -> list[Tables]:
    return [tables.get("axes", {}), *(row.get("sweep", {}) for row in tables["rows"])]


def _set(tables: Tables, table: str, key: str, value: Any) -> None:
    ours = [row for row in tables["rows"] if "command" not in row]
    if table not in PARTS:
        # said once for all rows, and by none of them
        tables[table] = {**tables.get(table, {}), key: value}
        for row in ours:
            row.get(table, {}).pop(key, None)
        return
    if key == "name":
        _keep(tables, table, _fields(PARTS[table].group, table, value))
        if _name(table, tables.get(table)) != value or table not in tables:
            tables[table] = {"name": value}
        for row in ours:
            if table in row and _name(table, row[table]) != value:
                del row[table]
        return
    having = [where for where in (tables, *ours) if where.get(table) and key in _keys(table, where[table])]
    for where in having:
        given = where[table]
        where[table] = {**(given if isinstance(given, dict) else {"name": given}), key: value}
    if not having:
        raise SettingError(f"{table}.{key}: no row names a {registry.SINGULAR[PARTS[table].group]} that has such a key")


def _keep(tables: Tables, table: str, known: Iterable[str]) -> None:
    """Take away what axes and sweeps vary in a table and another component has no key for."""
    for where in _varying(tables):
        for path in [path for path in where if path.startswith(f"{table}.")]:
            if path.partition(".")[2] not in known:
                del where[path]


def _name(part: str, given: Any) -> Any:
    return given.get("name", PARTS[part].default) if isinstance(given, dict) else given


def _keys(part: str, given: Any) -> Iterable[str]:
    return _fields(PARTS[part].group, part, _name(part, given))


def _fields(group: str, where: str, name: Any) -> Iterable[str]:
    if not isinstance(name, str):
        raise SettingError(f"{where}: wanted the name of a {registry.SINGULAR[group]}, got {name!r}")
    return registry.load(group, name).model_fields  # type: ignore[no-any-return]
