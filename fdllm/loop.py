"""The loop: run the step program until the canvas is full, and hand out what settled.

It owns what policies must not: the state, the noise, who waits and who is done. At most once a
step it asks the device which rows still have an open slot, and plans the next step before it waits
for the answer. A row whose window is full waits for the others; a row that is done leaves the batch.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any

import torch
from torch import Tensor

from fdllm.accounts import Accounts
from fdllm.agenda import Agenda
from fdllm.caches.base import CachePolicy
from fdllm.canvas import Canvas, start
from fdllm.compiler import Compiled
from fdllm.execution.base import Execution, Given, Outcome, Turn
from fdllm.generation import Stats
from fdllm.models.denoiser import Denoiser, Store
from fdllm.noise import keys, random_ids, row_keys
from fdllm.planning import Planned, Planner
from fdllm.policies.base import UnmaskingPolicy
from fdllm.polling import Poll
from fdllm.trace import Move, Place, moves
from fdllm.transfer import to_device


class ProgressError(ValueError):
    """A policy does not fill its windows; the message names it."""


@dataclass(frozen=True)
class Loop:
    """What does not change during a run.

    Attributes:
        denoiser: the model.
        cache: says which slots are recomputed.
        agenda: prompt length to the windows of a response and the commits due in them.
        num_new: slots of the response.
        stop_at_eos: a row is done when an eos stands with no open slot before it.
        policy: the rule; where it may reopen slots, an eos counts only in a full window.

    """

    denoiser: Denoiser
    cache: CachePolicy
    agenda: Callable[[int], Agenda]
    num_new: int
    stop_at_eos: bool
    policy: UnmaskingPolicy

    @cached_property
    def turn(self) -> Turn:
        """One step with the bookkeeping around it."""
        eos_ids = self.denoiser.spec.eos_ids if self.stop_at_eos else ()
        return Turn(
            num_new=self.num_new,
            eos_ids=tuple(eos_ids),
            done_when_full=self.policy.revokes,
            stores=self.cache.stores,
            counted=self.policy.punctual and self.agenda(0).planned and not eos_ids,
        )


@dataclass(frozen=True)
class Moment:
    """What is known right after a step: the state, each row's window, and what the program gave out.

    Tensors hold until the next step.
    """

    canvas: Canvas
    windows: list[range]
    values: Mapping[str, Any]


@dataclass
class Run:
    """One call of a decoder: the state of the loop."""

    loop: Loop
    compiled: Compiled
    execution: Execution
    prompts: list[list[int]]
    row_ids: list[int]
    seed: int
    traced: bool = False
    trace: list[Move] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lay out the canvas and plan every row; nothing is computed yet."""
        model = self.loop.denoiser
        blanks = self._blanks()
        with torch.inference_mode():
            self.canvas = start(
                self.prompts, self.row_ids, self.loop.num_new, blanks, self.compiled.columns, model.device
            )
            self.row_keys = self._row_keys()
        self.store: Store | None = None
        self.tokens = blanks
        self.accounts = Accounts(model.device, [0] * len(self.prompts))
        self.planner = Planner(model.spec, self.loop.cache)
        self.poll = Poll()
        self.agendas = [self.loop.agenda(len(prompt)) for prompt in self.prompts]

    def steps(self) -> Iterator[Moment]:
        """Run to the end, one step at a time."""
        begun = self.accounts.settled()
        if self.loop.cache.stores:
            self.store = self.execution.store(self.loop.denoiser, len(self.prompts), self.canvas.tokens.shape[1])
        for block in count():
            self._leave([len(self.agendas[row].windows) == block for row in self.canvas.rows])
            if not self.canvas.rows:
                break
            self._begin_block()
            waiting = [False] * len(self.canvas.rows)
            limit = max(self.agendas[row].limit(block) for row in self.canvas.rows)
            planned: Planned | None = None
            for index in count():
                if all(waiting):
                    break
                if index >= limit:
                    raise ProgressError(self._stuck())
                planned = planned or self._plan(block, index, waiting)
                moment, status = self._step(block, index, planned)
                # while the device works: a guess that is right but at the end of windows
                planned = self._plan(block, index + 1, waiting) if index + 1 < limit else None
                full, done = self._learned(block, index, status)
                self._leave(done)
                before, waiting = waiting, [flag for flag, gone in zip(full, done, strict=True) if not gone]
                planned = planned if waiting == before else None
                self.accounts.decode_seconds += time.perf_counter() - begun
                yield moment
                begun = time.perf_counter()
        self.accounts.decode_seconds += self.accounts.settled() - begun

    def stats(self) -> Stats:
        """Counts and times so far."""
        return self.accounts.stats(sum(len(self.completion(row)) for row in range(len(self.prompts))))

    def completion(self, row: int) -> list[int]:
        """Response ids of a row up to, not including, the first eos."""
        ids: list[int] = self.tokens[row].tolist()
        ends = (i for i, token in enumerate(ids) if token in self.loop.denoiser.spec.eos_ids)
        return ids[: next(ends, len(ids))]

    def _stuck(self) -> str:
        policy = self.loop.policy
        return (
            f"{policy!r}: a window still has open slots after every step it was granted; a rule with progresses = True "
            "must commit an open slot of each row in every step"
        )

    def _blanks(self) -> Tensor:
        """What the response holds before anything is decided, int64[B num_new] on the CPU."""
        spec, num_new = self.loop.denoiser.spec, self.loop.num_new
        if spec.mask_id is not None:
            return torch.full((len(self.prompts), num_new), spec.mask_id)
        assert spec.vocab_size is not None
        slots = torch.tensor([[len(prompt)] for prompt in self.prompts]) + torch.arange(num_new)
        return random_ids(keys(self.seed, torch.tensor([[i] for i in self.row_ids]), slots, -1), spec.vocab_size)

    @torch.inference_mode()
    def _begin_block(self) -> None:
        """State that is not kept by slot starts anew with every window."""
        canvas = self.canvas
        anew = {
            name: column.blank(len(canvas.rows), 0, canvas.tokens.device)
            for name, column in self.compiled.columns.items()
            if not column.by_slot
        }
        self.canvas = replace(canvas, columns={**canvas.columns, **anew})

    def _windows(self, block: int) -> list[range]:
        return [self.agendas[row].windows[block] for row in self.canvas.rows]

    @torch.inference_mode()
    def _plan(self, block: int, index: int, waiting: list[bool]) -> Planned:
        windows = zip(self.canvas.prompts, self._windows(block), strict=True)
        slots = [range(prompt + window.start, prompt + window.stop) for prompt, window in windows]
        return self.planner.plan(self.canvas, slots, block, index, waiting)

    @torch.inference_mode()
    def _step(self, block: int, index: int, planned: Planned) -> tuple[Moment, Tensor | None]:
        begun = self.accounts.mark()
        outcome = self._turned(block, index, planned)
        self.accounts.spend(planned.phase, begun)
        running = [row for row, plan in zip(self.canvas.rows, planned.plans, strict=True) if plan is not None]
        self.accounts.count(planned.phase, planned.feed.rows, planned.feed.picks.numel(), running)
        self.accounts.replays += outcome.replayed
        if outcome.status is not None:
            self.poll.ask(outcome.status)
        windows = self._windows(block)
        if self.traced:
            at = Place(self.accounts.nfe - 1, planned.phase, block, index)
            self.trace += moves(at, self.canvas.rows, windows, planned.plans, outcome.values)
        return Moment(self.canvas, windows, outcome.values), outcome.status

    def _turned(self, block: int, index: int, planned: Planned) -> Outcome:
        """Take one turn, and its state."""
        program, feed = self.compiled.programs[planned.phase], planned.feed
        given = Given(self.canvas.state, self._numbers(block, index), self.row_keys, feed, self.store)
        outcome = self.execution(program, given)
        self.canvas = self.canvas.after(outcome.state)
        return outcome

    def _numbers(self, block: int, index: int) -> Tensor:
        """What the host knows of a turn, `Given.numbers`."""
        told = []
        for row, prompt in zip(self.canvas.rows, self.canvas.prompts, strict=True):
            agenda = self.agendas[row]
            stop = prompt + agenda.windows[block].stop
            told.append([index, agenda.num_steps(block), agenda.quota(block, index), prompt, stop])
        return to_device(torch.tensor(told), self.canvas.tokens.device)

    def _row_keys(self) -> Tensor:
        ids = torch.tensor(self.canvas.row_ids, dtype=torch.int64)[:, None]
        return row_keys(self.seed, to_device(ids, self.canvas.tokens.device))

    def _learned(self, block: int, index: int, status: Tensor | None) -> tuple[list[bool], list[bool]]:
        """Say which rows have a full window, and which are done; count where no status was computed."""
        if status is None:
            rows = self.canvas.rows
            return [self.agendas[row].filled(block, index + 1) for row in rows], [False] * len(rows)
        answer = self.poll.answer()
        self.accounts.reads = self.poll.reads
        return answer

    @torch.inference_mode()
    def _leave(self, done: list[bool]) -> None:
        """Let rows that are done leave the batch."""
        if not any(done):
            return
        self._write([i for i, gone in enumerate(done) if gone])
        keep = [i for i, gone in enumerate(done) if not gone]
        self.canvas = self.canvas.keep(keep)
        self.row_keys = self._row_keys()
        if self.store is not None:
            indices = torch.tensor(keep, dtype=torch.int64, device=self.canvas.tokens.device)
            self.store = self.store.take(indices, self.canvas.tokens.shape[1])

    def _write(self, batch: Sequence[int]) -> None:
        """Write rows of the batch to the result; after a first eos only eos where the decoder stops there."""
        response = self.canvas.tokens.gather(1, self.canvas.response()).cpu()
        for i in batch:
            row = response[i]
            if self.loop.stop_at_eos:
                ends = torch.isin(row, torch.tensor(self.loop.denoiser.spec.eos_ids, dtype=row.dtype))
                if ends.any():
                    first = int(ends.int().argmax())
                    row = torch.cat([row[:first], row[first].expand(len(row) - first)])
            self.tokens[self.canvas.rows[i]] = row
