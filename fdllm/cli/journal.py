"""An output file that survives a kill: whole lines, in order, each on the disk before the next are decoded.

Beside `out.jsonl` stands `out.jsonl.run.json`, the record of the run that writes it. A restart
continues behind the last whole line if the record and the prompts answered so far are the same.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from fdllm.cli.prompts import Prompt
from fdllm.component import SettingError


class Journal:
    """An open output file, locked for this process.

    Attributes:
        done: rows that were there when it was opened.

    """

    def __init__(self, path: Path, record: Mapping[str, Any], prompts: list[Prompt]) -> None:
        """Open and check the file, and cut off a line that a kill tore.

        Args:
            path: the JSONL file to write or to continue.
            record: what a restart must have in common with this run, plain JSON values.
            prompts: the prompts of the whole run, in order.

        Raises:
            SettingError: it cannot be written, another process writes it now, or it belongs to
                another run; then it is left as it was.

        """
        self._path = path
        self._file = _open(path)
        try:
            _lock(self._file, path)
            self.done = self._resume(record, prompts)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows as lines and wait until the disk has them."""
        self._file.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _resume(self, record: Mapping[str, Any], prompts: list[Prompt]) -> int:
        content = self._file.read()
        record_path = self._path.with_name(f"{self._path.name}.run.json")
        if not content:
            _write_whole(record_path, json.dumps(record, indent=1, sort_keys=True))
            return 0
        _same_run(self._path, _read_record(record_path, self._path), record)
        whole = content[: content.rfind(b"\n") + 1]
        rows = [_row(line, f"{self._path}:{n}") for n, line in enumerate(whole.split(b"\n")[:-1], 1)]
        _same_prompts(self._path, rows, prompts)
        self._file.truncate(len(whole))
        self._file.seek(len(whole))
        return len(rows)


def _open(path: Path) -> BinaryIO:
    # what was written could not be read back from a device or a pipe
    if path.exists() and not path.is_file():
        raise SettingError(
            f"--output {path}: is no regular file, so a run cannot continue there; give another --output"
        )
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    except OSError as error:
        raise SettingError(f"--output {path}: cannot be written: {error.strerror}") from None


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        import fcntl
    except ImportError:
        # no such lock on Windows: there, starting a run twice is up to the user
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingError(f"--output {path}: another run is writing it now; wait for it or end it") from None


def _read_record(record_path: Path, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict):
        raise SettingError(
            f"--output {path}: there is such a file, but no record of its run in {record_path.name}; "
            "give another --output, or delete the file"
        )
    return record


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not {"index", "id", "prompt_digest"} <= set(row):
        raise SettingError(f"--output {where}: is no row of such a run; give another --output, or delete the file")
    return row


def _same_run(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            raise SettingError(
                f"--output {path}: it was begun with {key} = {old.get(key)!r}, this run has {new.get(key)!r}; "
                "repeat the first command, give another --output, or delete the file"
            )


def _same_prompts(path: Path, rows: list[dict[str, Any]], prompts: list[Prompt]) -> None:
    if len(rows) > len(prompts):
        raise SettingError(f"--output {path}: {len(rows)} rows for {len(prompts)} prompts; give another --output")
    for index, (row, prompt) in enumerate(zip(rows, prompts, strict=False)):
        if (row["index"], row["id"], row["prompt_digest"]) != (index, prompt.id, prompt.digest):
            raise SettingError(
                f"--output {path}:{index + 1}: answers another prompt than {prompt.where}; "
                "the prompts have changed: give another --output, or delete the file"
            )


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
