"""Where prompts come from: an argument, ids, a JSONL file, or the lines of stdin."""

import json
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from pydantic import ValidationError, field_validator, model_validator

from fdllm.chat import is_unicode
from fdllm.component import SettingError, Settings, explain
from fdllm.config_files import read_text
from fdllm.prompts import is_whole

Given = str | list[int] | list[dict[str, str]]


@dataclass(frozen=True)
class Prompt:
    """One prompt of a run.

    Attributes:
        where: the file and line, or the option, it came from, for messages.
        given: text, token ids, or the messages of a conversation.
        id: the caller's own name for it, or None.

    """

    where: str
    given: Given
    id: str | int | None = None

    @property
    def digest(self) -> str:
        """A fingerprint of text, ids or messages, to know the prompt again in an output file."""
        return sha256(json.dumps(self.given).encode()).hexdigest()[:16]


class Line(Settings):
    """One object of a JSONL file."""

    prompt: str | None = None
    prompt_ids: list[int] | None = None
    messages: list[dict[str, str]] | None = None
    id: str | int | None = None

    @field_validator("id", mode="before")
    @classmethod
    def _is_name(cls, given: object) -> object:
        if given is None or is_whole(given) or (isinstance(given, str) and is_unicode(given)):
            return given
        raise ValueError(f"wanted valid text or a whole number, got {given!r}")

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if len(self._said) != 1:
            raise ValueError("give one of 'prompt' (text), 'prompt_ids' (token ids) and 'messages' (a conversation)")
        if not self.given:
            raise ValueError("the prompt is empty; give text, at least one token id, or at least one message")
        return self

    @property
    def _said(self) -> list[Given]:
        return [each for each in (self.prompt, self.prompt_ids, self.messages) if each is not None]

    @property
    def given(self) -> Given:
        """Text, ids or messages, whichever it has."""
        return self._said[0]


def read_prompts(text: str | None, ids: str | None, file: Path | None, processes: int = 1) -> list[Prompt]:
    """Take the one source given, or stdin where none is and it belongs to one process.

    Raises:
        SettingError: several sources or none, or a prompt that is broken or empty; names file and line.

    """
    given = [name for name, x in (("--prompt", text), ("--prompt-ids", ids), ("--prompts", file)) if x is not None]
    if len(given) > 1:
        raise SettingError(f"{' and '.join(given)} exclude each other; give one of them")
    if text is not None:
        return [_prompt({"prompt": text}, "--prompt")]
    if ids is not None:
        return [_prompt({"prompt_ids": _json(ids, "--prompt-ids")}, "--prompt-ids")]
    if file is None and processes > 1:
        raise SettingError(f"stdin: {processes} processes cannot share it; give --prompt, --prompt-ids or --prompts")
    return from_stdin() if file is None else from_jsonl(file)


def from_jsonl(file: Path) -> list[Prompt]:
    """Read every line of the file; blank lines do not count."""
    numbered = [(f"{file}:{n}", line) for n, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]
    return _some([_prompt(_json(line, where), where) for where, line in numbered], str(file))


def from_stdin() -> list[Prompt]:
    """Read one prompt a line; blank lines do not count."""
    if sys.stdin.isatty():
        raise SettingError("no prompt: give --prompt, --prompt-ids or --prompts, or pipe lines into stdin")
    try:
        lines = [line.rstrip("\r") for line in sys.stdin.read().split("\n")]
    except UnicodeDecodeError as error:
        raise SettingError(f"stdin: not {error.encoding} text at byte {error.start}") from None
    return _some([Prompt(f"stdin:{n}", line) for n, line in enumerate(lines, 1) if line.strip()], "stdin")


def _some(prompts: list[Prompt], where: str) -> list[Prompt]:
    if not prompts:
        raise SettingError(f"{where}: no prompt in it; give at least one line, or --prompt")
    return prompts


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingError(f"{where}: broken JSON: {error.msg}, column {error.colno}") from None
    except RecursionError:
        raise SettingError(f"{where}: broken JSON: nested too deeply") from None


def _prompt(given: object, where: str) -> Prompt:
    if not isinstance(given, dict):
        raise SettingError(f"{where}: wanted an object with 'prompt', 'prompt_ids' or 'messages', got {given!r}")
    try:
        line = Line.model_validate(given)
    except ValidationError as error:
        raise SettingError("\n".join(f"{where}: {found}" for found in explain(error, "", Line).splitlines())) from None
    return Prompt(where, line.given, line.id)
