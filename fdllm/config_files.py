"""Read a table from a TOML, YAML or JSON file, and a single value from a command line."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from fdllm.component import SettingError


def read_table(path: str | Path) -> dict[str, Any]:
    """Read the file by its suffix: `.toml`, `.yaml` or `.yml`, `.json`.

    Raises:
        SettingError: no such file, an unknown suffix, a broken file, a key given twice, or no table at its top.

    """
    path = Path(path)
    parse = PARSERS.get(path.suffix.lower())
    if parse is None:
        raise SettingError(f"{path}: cannot tell its format by its name; use one of {', '.join(PARSERS)}")
    try:
        table = parse(read_text(path), str(path))
    except RecursionError:
        raise SettingError(f"{path}: nested too deeply; a config has tables of keys") from None
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise SettingError(f"{path}: wanted tables such as [generate], got {type(table).__name__}")
    return table


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises:
        SettingError: it cannot be read, or it is not UTF-8.

    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None


def read_value(text: str) -> Any:
    """Read `0.8`, `true`, `[1, 2]`, `"text"` or `null` as TOML or JSON has it, and anything else as a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
        # a line break in the text could start a second key
        return parsed["value"] if len(parsed) == 1 else text
    except tomllib.TOMLDecodeError:
        pass
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _toml(text: str, path: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else f"{path}:{text.count(chr(10)) + 1}"
        raise SettingError(f"{where}: broken TOML: {error}") from None


def _json(text: str, path: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise SettingError(f"{path}:{error.lineno}: broken JSON: {error.msg}, column {error.colno}") from None
    except KeyError as error:
        raise SettingError(f"{path}: key {error} is given twice; keep one") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise KeyError(key)
        table[key] = value
    return table


def _broken(why: str, at: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, why, at.start_mark)


class _Loader(yaml.SafeLoader):
    """YAML without duplicate keys, and with `1e-3` a number as in TOML and JSON."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _broken("a key must be a name, not a list or a table", key)
            if key.value in seen:
                raise _broken(f"key {key.value!r} is given twice; keep one", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
)


def _yaml(text: str, path: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark else path
        raise SettingError(f"{where}: broken YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise SettingError(f"{path}: broken YAML: {error}") from None


PARSERS: dict[str, Callable[[str, str], Any]] = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml, ".json": _json}
