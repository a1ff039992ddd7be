"""The loop: run the step program until the canvas is full, and hand out what settled.

It owns what policies must not: the state, the noise, who waits and who is done. It reads the
device once a step, to know which rows still have an open slot. A row whose window is full waits
for the others; a row that is done leaves the batch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from fdllm.accounts import Accounts
from fdllm.agenda import Agenda
from fdllm.caches.base import CachePolicy
from fdllm.canvas import Canvas, start
from fdllm.compiler import Compiled
from fdllm.generation import Stats
from fdllm.models.denoiser import Denoiser, Store
from fdllm.models.feed import Feed
from fdllm.noise import keys, random_ids
from fdllm.planning import Planner
from fdllm.policies.base import UnmaskingPolicy
from fdllm.trace import Move, Place, moves


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


@dataclass(frozen=True)
class Moment:
    """What is known right after a step: the state, each row's window, and what the program gave out."""

    canvas: Canvas
    windows: list[range]
    values: Mapping[str, Any]


@dataclass
class Run:
    """One call of a decoder: the state of the loop."""

    loop: Loop
    compiled: Compiled
    prompts: list[list[int]]
    row_ids: list[int]
    seed: int
    traced: bool = False
    trace: list[Move] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lay out the canvas and plan every row; nothing is computed yet."""
        model = self.loop.denoiser
        blanks = self._blanks()
        self.canvas = start(self.prompts, self.row_ids, self.loop.num_new, blanks, self.compiled.columns, model.device)
        self.store: Store | None = None
        self.tokens = blanks
        self.accounts = Accounts(model.device, [0] * len(self.prompts))
        self.planner = Planner(model.spec, self.loop.cache)
        self.agendas = [self.loop.agenda(len(prompt)) for prompt in self.prompts]

    def steps(self) -> Iterator[Moment]:
        """Run to the end, one step at a time."""
        now = self.accounts.now
        begun = now()
        if self.loop.cache.stores:
            self.store = self.loop.denoiser.new_store(len(self.prompts), self.canvas.tokens.shape[1])
        for block in count():
            self._leave([len(self.agendas[row].windows) == block for row in self.canvas.rows])
            if not self.canvas.rows:
                break
            self._begin_block()
            waiting = [False] * len(self.canvas.rows)
            limit = max(self.agendas[row].limit(block) for row in self.canvas.rows)
            for index in count():
                if all(waiting):
                    break
                if index >= limit:
                    raise ProgressError(self._stuck())
                moment = self._step(block, index, waiting)
                full, done = self._status(moment)
                self._leave(done)
                waiting = [flag for flag, gone in zip(full, done, strict=True) if not gone]
                self.accounts.decode_seconds += now() - begun
                yield moment
                begun = now()
        self.accounts.decode_seconds += now() - begun

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

    def _begin_block(self) -> None:
        """State that is not kept by slot starts anew with every window."""
        canvas = self.canvas
        anew = {
            name: column.blank(len(canvas.rows), 0, canvas.tokens.device)
            for name, column in self.compiled.columns.items()
            if not column.by_slot
        }
        self.canvas = replace(canvas, columns={**canvas.columns, **anew})

    @torch.inference_mode()
    def _step(self, block: int, index: int, waiting: list[bool]) -> Moment:
        begun = self.accounts.now()
        windows = [self.agendas[row].windows[block] for row in self.canvas.rows]
        slots = [range(p + w.start, p + w.stop) for p, w in zip(self.canvas.prompts, windows, strict=True)]
        planned = self.planner.plan(self.canvas, slots, block, index, waiting)
        program = self.compiled.programs[planned.phase]
        given = self._given(planned.feed, block, index)
        values = program(**{name: given[name]() for name in program.graph.inputs})
        self._take_state(planned.feed, values)
        running = [row for row, plan in zip(self.canvas.rows, planned.plans, strict=True) if plan is not None]
        self.accounts.count(planned.phase, planned.feed.rows, planned.feed.picks.numel(), running)
        if self.traced:
            at = Place(self.accounts.nfe - 1, planned.phase, block, index)
            self.trace += moves(at, self.canvas.rows, windows, planned.plans, values)
        self.accounts.spend(planned.phase, begun)
        return Moment(self.canvas, windows, values)

    def _given(self, now: Feed, block: int, index: int) -> dict[str, Callable[[], Any]]:
        """What a program may read, made only when it does."""
        canvas, device = self.canvas, now.window.device
        agendas = [self.agendas[row] for row in canvas.rows]

        def column(values: Iterable[int]) -> Tensor:
            return torch.tensor([[value] for value in values], device=device)

        def progress() -> Tensor:
            return 1 - canvas.open_slots.sum(-1, keepdim=True) / canvas.num_new

        return {
            "canvas": lambda: canvas.tokens,
            "open_slots": lambda: canvas.open_slots,
            "window": lambda: now.window,
            "feed": lambda: now,
            "store": lambda: self.store,
            "noise": lambda: keys(self.seed, column(canvas.row_ids), now.window, index),
            "quota": lambda: column(each.quota(block, index) for each in agendas),
            "step": lambda: column(index for _ in agendas),
            "steps": lambda: column(each.num_steps(block) for each in agendas),
            "progress": progress,
            **{f"{name}_column": partial(canvas.columns.__getitem__, name) for name in canvas.columns},
        }

    def _take_state(self, now: Feed, values: Mapping[str, Any]) -> None:
        """Make what the program gave the state, and keep the ledger of stale slots."""
        canvas = self.canvas
        stale = canvas.stale
        if self.loop.cache.stores:
            stale = pad(stale, (0, 1)).scatter(1, now.slots, False)[:, :-1]
            stale = stale | (values["next_canvas"] != canvas.tokens)
        self.canvas = replace(
            canvas,
            tokens=values["next_canvas"],
            open_slots=values["next_open_slots"],
            stale=stale,
            columns={name: values[f"next_{name}_column"] for name in canvas.columns},
        )

    @torch.inference_mode()
    def _status(self, moment: Moment) -> tuple[list[bool], list[bool]]:
        """Read from the device which rows have a full window, and which are done."""
        canvas, spec = self.canvas, self.loop.denoiser.spec
        at = canvas.response()
        still_open = canvas.open_slots.gather(1, at)
        ends_of_windows = torch.tensor([[window.stop] for window in moment.windows], device=at.device)
        # windows are filled in order, so whatever is open before the end of one is in it
        before_end = torch.arange(canvas.num_new, device=at.device) < ends_of_windows
        full = ~(still_open & before_end).any(-1)
        done = torch.zeros_like(full)
        if self.loop.stop_at_eos and spec.eos_ids:
            ends = torch.isin(canvas.tokens.gather(1, at), torch.tensor(spec.eos_ids, device=at.device))
            done = (ends & ~still_open & (still_open.cumsum(-1) == 0)).any(-1)
            done = done & full if self.loop.policy.revokes else done
        waiting, over = torch.stack([full, done]).tolist()
        return waiting, over

    @torch.inference_mode()
    def _leave(self, done: list[bool]) -> None:
        """Let rows that are done leave the batch."""
        if not any(done):
            return
        self._write([i for i, gone in enumerate(done) if gone])
        keep = [i for i, gone in enumerate(done) if not gone]
        self.canvas = self.canvas.keep(keep)
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
