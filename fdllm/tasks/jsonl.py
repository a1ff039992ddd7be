"""A task from a file: one JSON object a line, with a prompt and an answer."""

import json
from pathlib import Path
from typing import Any, final

from pydantic import Field

from fdllm.component import SettingError
from fdllm.config_files import read_text
from fdllm.tasks.base import Example, Task


@final
class Jsonl(Task):
    """Prompts and references from a JSONL file, one object a line; other keys than those named are left alone.

    A prompt is a text or a list of messages, `{"role": "user", "content": "..."}` each; an answer a text or a number.
    The key `id`, a text or a whole number, names an example; without one it goes by its line, as in `line 7`.
    """

    path: str = Field(min_length=1, description="the file")
    prompt: str = Field("prompt", min_length=1, description="key of the prompt")
    answer: str = Field("answer", min_length=1, description="key of the reference that the scorer compares with")

    def examples(self, limit: int | None) -> list[Example]:
        """Read the whole file, so that a broken line is told before anything runs; blank lines do not count."""
        found: dict[str, Example] = {}
        for number, line in enumerate(read_text(Path(self.path)).split("\n"), 1):
            if line.strip():
                example = self._example(f"{self.path}:{number}", number, line)
                if example.id in found:
                    raise SettingError(
                        f"{self.path}:{number}: id {example.id!r} stands in a line above; name each once"
                    )
                found[example.id] = example
        if not found:
            raise SettingError(f"{self.path}: no line in it; give at least one object with {self.prompt!r}")
        return list(found.values())[:limit]

    def _example(self, where: str, number: int, line: str) -> Example:
        table = _object(where, line)
        given = [
            _value(where, table, key, setting) for key, setting in ((self.prompt, "prompt"), (self.answer, "answer"))
        ]
        prompt, reference = _prompt(f"{where}: {self.prompt}", given[0]), _text(f"{where}: {self.answer}", given[1])
        try:
            self.scorer.check(reference)
        except ValueError as error:
            raise SettingError(f"{where}: {self.answer}: {error}") from None
        return Example(_id(where, table.get("id"), number), prompt, reference)


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        # a number stays as it is written: 0.00001 is no 1e-05
        table = json.loads(line, parse_float=str)
    except json.JSONDecodeError as error:
        raise SettingError(f"{where}: broken JSON: {error.msg}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{where}: broken JSON: {error}") from None
    if not isinstance(table, dict):
        raise SettingError(f"{where}: wanted an object with a prompt and an answer, got {table!r}")
    return table


def _value(where: str, table: dict[str, Any], key: str, setting: str) -> Any:
    if key not in table:
        raise SettingError(
            f"{where}: no key {key!r}, only {', '.join(table) or 'an empty object'}; add it, or name another with "
            f"task.{setting}"
        )
    return table[key]


def _prompt(where: str, given: Any) -> str | list[dict[str, str]]:
    if isinstance(given, str) and given:
        return given
    if isinstance(given, list) and given and all(map(_is_message, given)):
        return given
    raise SettingError(f"{where}: wanted a text, or messages with role and content, got {given!r}")


def _is_message(given: Any) -> bool:
    return (
        isinstance(given, dict)
        and set(given) == {"role", "content"}
        and all(isinstance(x, str) for x in given.values())
    )


def _text(where: str, given: Any) -> str:
    if isinstance(given, str | int | float) and not isinstance(given, bool):
        return str(given)
    raise SettingError(f"{where}: wanted a text or a number, got {given!r}")


def _id(where: str, given: Any, number: int) -> str:
    if given is None:
        return f"line {number}"
    if isinstance(given, str | int) and not isinstance(given, bool) and given != "":
        return str(given)
    raise SettingError(f"{where}: id: wanted a text or a whole number, got {given!r}")
