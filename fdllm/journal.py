"""A JSONL file that survives a kill: whole lines, in order, each on the disk before the next are made.

Beside `out.jsonl` stands `out.jsonl.run.json`, the record of the run that writes it. A restart
continues behind the last whole line if the record is the same.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from fdllm.component import SettingError


class Journal:
    """An open file, locked for this process.

    Attributes:
        rows: lines that were there when it was opened.

    """

    def __init__(self, path: Path, record: Mapping[str, Any], option: str, keys: Iterable[str]) -> None:
        """Open and check the file, and cut off a line that a kill tore.

        Args:
            path: the JSONL file to write or to continue.
            record: what a restart must have in common with this run, plain JSON values.
            option: what the user gave it by, for messages, such as `--output`.
            keys: what every line has.

        Raises:
            SettingError: it cannot be written, another process writes it now, or it belongs to
                another run; then it is left as it was.

        """
        self.where = f"{option} {path}"
        self._option, self._keys = option, set(keys)
        self._file = self._open(path)
        try:
            self._lock()
            content = self._file.read()
            record_path = path.with_name(f"{path.name}.run.json")
            if content:
                self._same_run(record_path, record)
            self.rows = self._read(content)
            self.check()
            if not content:
                write_whole(record_path, json.dumps(record, indent=1, sort_keys=True))
            whole = content.rfind(b"\n") + 1
            self._file.truncate(whole)
            self._file.seek(whole)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def check(self) -> None:
        """Check `rows` further before anything is written.

        Raises:
            SettingError: they are not of this run.

        """

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows as lines and wait until the disk has them."""
        self._file.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _open(self, path: Path) -> BinaryIO:
        # what was written could not be read back from a device or a pipe
        if path.exists() and not path.is_file():
            raise SettingError(
                f"{self.where}: is no regular file, so a run cannot continue there; give another {self._option}"
            )
        try:
            return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        except OSError as error:
            raise SettingError(f"{self.where}: cannot be written: {error.strerror}") from None

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:
            # no such lock on Windows: there, starting a run twice is up to the user
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError(f"{self.where}: another run is writing it now; wait for it or end it") from None

    def _same_run(self, record_path: Path, new: Mapping[str, Any]) -> None:
        try:
            old = json.loads(record_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            old = None
        if not isinstance(old, dict):
            raise SettingError(
                f"{self.where}: there is such a file, but no record of its run in {record_path.name}; "
                f"give another {self._option}, or delete the file"
            )
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                raise SettingError(
                    f"{self.where}: it was begun with {key} = {old.get(key)!r}, this run has {new.get(key)!r}; "
                    f"repeat the first command, give another {self._option}, or delete the file"
                )

    def _read(self, content: bytes) -> list[dict[str, Any]]:
        return [self._row(line, number) for number, line in enumerate(content.split(b"\n")[:-1], 1)]

    def _row(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not set(row) >= self._keys:
            raise SettingError(
                f"{self.where}:{number}: is no row of such a run; give another {self._option}, or delete the file"
            )
        return row


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
