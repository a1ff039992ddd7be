"""What decodes for a row of a grid: fdllm, or an external process, under the same clock and count."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

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
        seconds: wall time of the request, from the prompts' ids to the tokens, the device done; of fdllm's
            own with the texts written.
        refresh_seconds: time in refresh forwards, or None for an external decoder.
        peak_memory: bytes held at most, or None where the system does not say.

    """

    tokens: list[list[int]]
    texts: list[str]
    nfe: list[int] | None
    seconds: float
    refresh_seconds: float | None
    peak_memory: int | None


class Entrant(Protocol):
    """One side of the comparison."""

    def decode(self, prompts: list[list[int]], ids: list[int]) -> Decoded:
        """Decode a batch of prompts, given as token ids; `ids` are the rows' identities for the noise."""

    def record(self) -> dict[str, str]:
        """Say what decodes, for a report."""


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


class Theirs:
    """An external decoder; docs/benchmarking.md tells what it is asked and what it answers."""

    def __init__(self, cell: Cell, model: Denoiser, process: External, threads: int) -> None:
        """Let it load the model, which may take its time.

        Raises:
            ExternalError: it cannot, or says nothing that can be read.

        """
        self.cell, self.model, self.process = cell, model, process
        # the blocks that fdllm takes, which the model's own may be
        self.block_length = getattr(ours(cell, model).decoder.plan.schedule, "block_length", None)
        answer = process.ask(
            "load",
            model={
                **cell.config.model.model_dump(exclude_unset=True, exclude_none=True),
                # the name of a built-in model means nothing to another program
                "path": str(BUILT_IN.get(cell.config.model.path, cell.config.model.path)),
                "device": str(model.device),
                "dtype": str(model.dtype).removeprefix("torch."),
            },
            generate=cell.config.generate.model_dump(exclude_unset=True, exclude_none=True),
            threads=threads,
            options=dict(cell.options),
        )
        said = answer.get("record", {})
        if not isinstance(said, dict):
            raise self._wanted("record, a table", answer)
        self.said = {str(key): str(value) for key, value in said.items()}

    def decode(self, prompts: list[list[int]], ids: list[int]) -> Decoded:
        """Ask for a batch; the clock runs from the request to the answer."""
        generate = self.cell.config.generate
        fields = {
            "prompts": prompts,
            "max_new_tokens": generate.max_new_tokens,
            "block_length": self.block_length,
            "seed": generate.seed,
        }
        began = time.perf_counter()
        answer = self.process.ask("decode", **fields)
        seconds = time.perf_counter() - began
        tokens = [self._visible(row) for row in self._rows(answer, len(prompts))]
        nfe = answer.get("nfe")
        if nfe is not None and not (_are_counts(nfe) and len(nfe) == len(prompts)):
            raise self._wanted(f"nfe, a number of forwards for each of {len(prompts)} prompts", answer)
        assert self.model.tokenizer is not None
        return Decoded(
            tokens=tokens,
            texts=[self.model.tokenizer.decode(row) for row in tokens],
            nfe=nfe,
            seconds=seconds,
            refresh_seconds=None,
            peak_memory=peak_of_process(self.process.process.pid),
        )

    def _rows(self, answer: dict[str, Any], count: int) -> list[list[int]]:
        rows, texts, most = answer.get("tokens"), answer.get("texts"), self.cell.config.generate.max_new_tokens
        if rows is None and isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            assert self.model.tokenizer is not None
            rows = [self.model.tokenizer.encode(text, add_special_tokens=False)[:most] for text in texts]
        if not isinstance(rows, list) or len(rows) != count or not all(map(_are_counts, rows)):
            raise self._wanted(f"tokens, a list of ids for each of {count} prompts, or texts", answer)
        if any(len(row) > most for row in rows):
            raise self._wanted(f"at most {most} ids a response, without the prompt", answer)
        return rows

    def _visible(self, tokens: Sequence[int]) -> list[int]:
        """Cut a response before its first eos; what was left a mask is no token."""
        spec = self.model.spec
        ends = [at for at, token in enumerate(tokens) if token in spec.eos_ids]
        return [token for token in (tokens[: ends[0]] if ends else tokens) if token != spec.mask_id]

    def _wanted(self, what: str, answer: dict[str, Any]) -> ExternalError:
        return ExternalError(f"row {self.cell.row!r}: wanted {what}, got {str(answer)[:200]}")

    def record(self) -> dict[str, str]:
        """Give its command and what it said of itself."""
        return {"command": " ".join(self.cell.command), **self.said}


@contextmanager
def entered(cell: Cell, model: Denoiser) -> Iterator[Entrant]:
    """Make what decodes for a cell; a process that was started for it ends with the context.

    Raises:
        SettingError, fdllm.external.ExternalError: it cannot be built, or started; names the row.

    """
    if cell.command:
        with External(f"row {cell.row!r}", cell.command) as process:
            yield Theirs(cell, model, process, torch.get_num_threads())
    else:
        yield ours(cell, model)


def ours(cell: Cell, model: Denoiser) -> Ours:
    """Compile the decoder of a cell.

    Raises:
        SettingError: it cannot be built; names the row.

    """
    try:
        return Ours(cell, model)
    except ValueError as error:
        raise SettingError(f"row {cell.row!r}: {error}") from None


def _are_counts(given: Any) -> bool:
    return isinstance(given, list) and all(type(each) is int and 0 <= each < 2**31 for each in given)
