"""The output of `fdllm generate`: a journal that answers prompts in order, and continues only for the same prompts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdllm.cli.prompts import Prompt
from fdllm.component import SettingError
from fdllm.journal import Journal


class Output(Journal):
    """An open output file.

    Attributes:
        done: rows that were there when it was opened.

    """

    def __init__(self, path: Path, record: Mapping[str, Any], prompts: list[Prompt]) -> None:
        """Open and check the file.

        Args:
            path: the JSONL file to write or to continue.
            record: what a restart must have in common with this run, plain JSON values.
            prompts: the prompts of the whole run, in order.

        Raises:
            SettingError: from `Journal`, or the rows there answer other prompts.

        """
        self._prompts = prompts
        super().__init__(path, record, "--output", ("index", "id", "prompt_digest"))
        self.done = len(self.rows)

    def check(self) -> None:
        """Hold the rows to the prompts."""
        if len(self.rows) > len(self._prompts):
            count = len(self._prompts)
            raise SettingError(f"{self.where}: {len(self.rows)} rows for {count} prompts; give another --output")
        for index, (row, prompt) in enumerate(zip(self.rows, self._prompts, strict=False)):
            if (row["index"], row["id"], row["prompt_digest"]) != (index, prompt.id, prompt.digest):
                raise SettingError(
                    f"{self.where}:{index + 1}: answers another prompt than {prompt.where}; "
                    "the prompts have changed: give another --output, or delete the file"
                )
