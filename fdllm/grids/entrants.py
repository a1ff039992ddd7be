"""What decodes for a row of a grid: fdllm, or an external process, under the same clock and count."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fdllm.component import SettingError
from fdllm.external import External, ExternalError
from fdllm.grids.cells import Cell
from fdllm.memory import forget, peak, peak_of_process
from fdllm.models.denoiser import Denoiser
from fdllm.models.files import BUILT_IN


@dataclass(frozen=True)
class Decoded:
    """A batch that was decoded.

    Attributes:
        tokens: ids of each row up to, not including, the first eos.
        texts: those as text.
        nfe: forwards each row took part in, or None where an external decoder does not say.
        seconds: wall time from the prompts' ids to the tokens, the device done.
        refresh_seconds: time in refresh forwards.
        peak_memory: bytes held at most, or None where the system does not say.

    """

    tokens: list[list[int]]
    texts: list[str]
    nfe: list[int] | None
    seconds: float
    refresh_seconds: float
    peak_memory: int | None


class Entrant(Protocol):
    """One side of the comparison."""

    def decode(self, prompts: list[list[int]], ids: list[int]) -> Decoded:
        """Decode a batch of prompts, given as token ids; `ids` are the rows' identities for the noise."""

    def record(self) -> dict[str, str]:
        """Say what decodes, for a report."""

    def close(self) -> None:
        """Let go of what it holds."""


class Ours:
    """A decoder of fdllm."""

    def __init__(self, cell: Cell, model: Denoiser) -> None:
        """Compile it."""
        self.decoder = cell.config.compile(model)
        self.seed = cell.config.generate.seed

    def decode(self, prompts: list[list[int]], ids: list[int]) -> Decoded:
        """Decode together, or one after the other where the policy cannot have them together."""
        batches = [(prompts, ids)]
        if not self.decoder.together(prompts):
            batches = [([prompt], [i]) for prompt, i in zip(prompts, ids, strict=True)]
        device = self.decoder.model.device
        forget(device)
        began = time.perf_counter()
        outs = [self.decoder.generate(part, seed=self.seed, row_ids=rows) for part, rows in batches]
        seconds = time.perf_counter() - began
        return Decoded(
            tokens=[row for out in outs for row in out.completions],
            texts=[text for out in outs for text in out.text or []],
            nfe=[nfe for out in outs for nfe in out.row_nfe],
            seconds=seconds,
            refresh_seconds=sum(out.stats.seconds.get("refresh", 0.0) for out in outs),
            peak_memory=peak(device),
        )

    def record(self) -> dict[str, str]:
        """Give the decoder's record."""
        return self.decoder.record()

    def close(self) -> None:
        """Hold nothing that does not go by itself."""


class Theirs:
    """An external decoder; docs/benchmarking.md tells what it is asked and what it answers."""

    def __init__(self, cell: Cell, model: Denoiser, threads: int) -> None:
        """Start it and let it load the model, which may take its time.

        Raises:
            ExternalError: it cannot be started, or cannot load.

        """
        self.cell, self.model = cell, model
        self.process = External(f"row {cell.row!r}", cell.command)
        table = cell.config.model.model_dump(exclude_unset=True, exclude_none=True)
        # the name of a built-in model means nothing to another program
        path = str(BUILT_IN.get(cell.config.model.path, cell.config.model.path))
        try:
            answer = self.process.ask(
                "load", model={**table, "path": path}, threads=threads, options=dict(cell.options)
            )
        except ExternalError:
            self.close()
            raise
        self.said = {str(key): str(value) for key, value in answer.get("record", {}).items()}

    def decode(self, prompts: list[list[int]], ids: list[int]) -> Decoded:
        """Ask for a batch; the clock runs from the request to the answer."""
        generate = self.cell.config.generate
        fields = {
            "prompts": prompts,
            "max_new_tokens": generate.max_new_tokens,
            "block_length": generate.block_length or self.cell.config.schedule.model_dump().get("block_length"),
            "seed": generate.seed,
        }
        began = time.perf_counter()
        answer = self.process.ask("decode", **fields)
        seconds = time.perf_counter() - began
        tokens = [_visible(row, self.model.spec.eos_ids) for row in self._rows(answer, len(prompts))]
        nfe = answer.get("nfe")
        assert self.model.tokenizer is not None
        return Decoded(
            tokens=tokens,
            texts=[self.model.tokenizer.decode(row) for row in tokens],
            nfe=None if nfe is None else [int(each) for each in nfe],
            seconds=seconds,
            refresh_seconds=0.0,
            peak_memory=peak_of_process(self.process.process.pid),
        )

    def _rows(self, answer: dict[str, Any], count: int) -> list[list[int]]:
        rows = answer.get("tokens")
        if rows is None and isinstance(answer.get("texts"), list):
            assert self.model.tokenizer is not None
            rows = [self.model.tokenizer.encode(text) for text in answer["texts"]]
        if not isinstance(rows, list) or len(rows) != count:
            raise ExternalError(
                f"row {self.cell.row!r}: wanted tokens, a list of ids for each of {count} prompts, or texts, "
                f"got {str(answer)[:200]}"
            )
        return rows

    def record(self) -> dict[str, str]:
        """Give its command and what it said of itself."""
        return {"command": " ".join(self.cell.command), **self.said}

    def close(self) -> None:
        """End the process."""
        self.process.__exit__(None, None, None)


def enter(cell: Cell, model: Denoiser, threads: int) -> Entrant:
    """Make what decodes for a cell.

    Raises:
        SettingError, fdllm.external.ExternalError: it cannot be built, or started; names the row.

    """
    if cell.command:
        return Theirs(cell, model, threads)
    try:
        return Ours(cell, model)
    except ValueError as error:
        raise SettingError(f"row {cell.row!r}: {error}") from None


def _visible(tokens: Sequence[int], eos_ids: Sequence[int]) -> list[int]:
    """Cut a response before its first eos."""
    ends = [at for at, token in enumerate(tokens) if token in eos_ids]
    return list(tokens[: ends[0]] if ends else tokens)
