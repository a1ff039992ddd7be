"""Many prompts through one decoder, in batches; into a file that a killed run continues."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fdllm.cli.prompts import Prompt
from fdllm.cli.ranks import first, opened
from fdllm.config import DecodingConfig
from fdllm.decoder import Decoder
from fdllm.generation import Generation
from fdllm.prompts import PromptError


@dataclass(frozen=True)
class Job:
    """Prompts to decode and what decodes them.

    Attributes:
        ids: the prompts as token ids.
        seed: of the noise.
        batch_size: most prompts decoded together; it changes the speed and not the tokens.
        chat: whether texts are messages of a user, for the model's chat template.

    """

    decoder: Decoder
    prompts: list[Prompt]
    ids: list[list[int]]
    seed: int
    batch_size: int
    chat: bool

    @classmethod
    def checked(cls, settings: DecodingConfig, prompts: list[Prompt], batch_size: int, chat: bool) -> "Job":
        """Build the decoder and read every prompt as ids, before the first is decoded.

        Raises:
            ValueError: a setting does not fit, or a prompt cannot be decoded; names where it came from.

        """
        decoder = settings.compile()
        ids = [_ids(decoder, prompt, chat) for prompt in prompts]
        return cls(decoder, prompts, ids, settings.generate.seed, batch_size, chat)

    def record(self) -> dict[str, str]:
        """Name all that the results depend on beside the prompts."""
        return {**self.decoder.record(), "seed": str(self.seed), "chat": str(self.chat)}

    def batches(self, begin: int = 0) -> Iterator[tuple[list[dict[str, Any]], Generation]]:
        """Decode from prompt `begin` on; yield the lines of each batch, in order, and its result."""
        while begin < len(self.ids):
            rows = self._rows(begin)
            begin = rows.stop
            # a row's id is its index in the whole run, so its sample depends on neither batch nor restart
            out = self.decoder.generate([self.ids[i] for i in rows], seed=self.seed, row_ids=list(rows))
            yield [self._line(row, at, out) for at, row in enumerate(rows)], out

    def write(self, output: Path) -> dict[str, Any]:
        """Decode into a file, behind what a killed run left there, with a progress bar on stderr.

        Returns:
            What was done: output, rows, resumed (rows that were there), and nfe, visible_tokens,
            decode_seconds, tokens_per_second of the rows decoded now.

        """
        nfe = tokens = seconds = 0.0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with (
            opened(self.decoder.model, output, self.record(), self.prompts) as journal,
            Progress(*columns, console=Console(stderr=True), disable=not first(self.decoder.model)) as bar,
        ):
            task = bar.add_task(output.name, total=len(self.prompts), completed=journal.done)
            for lines, out in self.batches(journal.done):
                journal.append(lines)
                bar.advance(task, len(lines))
                nfe, tokens = nfe + out.nfe, tokens + out.stats.visible_tokens
                seconds += out.stats.decode_seconds
        return {
            "output": str(output),
            "rows": len(self.prompts),
            "resumed": journal.done,
            "nfe": int(nfe),
            "visible_tokens": int(tokens),
            "decode_seconds": seconds,
            "tokens_per_second": tokens / seconds if seconds else 0.0,
        }

    def _rows(self, begin: int) -> range:
        """Take a batch from `begin` on, cut short before a prompt that cannot be decoded with it."""
        for stop in range(begin + 1, min(begin + self.batch_size, len(self.ids))):
            if not self.decoder.together([self.ids[begin], self.ids[stop]]):
                return range(begin, stop)
        return range(begin, min(begin + self.batch_size, len(self.ids)))

    def _line(self, row: int, at: int, out: Generation) -> dict[str, Any]:
        """One row; its nfe counts the forwards it took part in, so it does not depend on its batch."""
        tokens = out.completions[at]
        return {
            "index": row,
            "id": self.prompts[row].id,
            "prompt_digest": self.prompts[row].digest,
            "text": out.text[at] if out.text else None,
            "tokens": tokens,
            "nfe": out.row_nfe[at],
            "visible_tokens": len(tokens),
        }


def _ids(decoder: Decoder, prompt: Prompt, chat: bool) -> list[int]:
    # one at a time: a file may mix texts, ids and conversations
    asked = chat and isinstance(prompt.given, str)
    given: Any = [{"role": "user", "content": prompt.given}] if asked else prompt.given
    try:
        (ids,) = decoder.ids_of(given if isinstance(given, str) else [given])
    except PromptError as error:
        raise PromptError(re.sub(r"^prompts(\[0\])?", lambda _: prompt.where, str(error))) from None
    return ids
