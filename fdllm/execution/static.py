"""Turns recorded once and replayed: every tensor stands in a buffer that keeps its place.

The first turn of a kind runs as it is, over the buffers, and warms up what is made at first use.
The second is recorded, from then on it is replayed. What differs from turn to turn (tokens, where
the window is, the step) is copied into the buffers beforehand, so one record serves every block of
a phase. A turn ends by writing the next state into the buffers that it read it from.

What is not a tensor is part of the kind: phase, shapes, whether there is a mask. A prefix cache
computes fewer slots with every block, so it has a record for each block; padding them all to the
longest would compute twice the suffix on average, where a record costs an eager step and a capture.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import final

from torch import Tensor

from fdllm.compiler import Program
from fdllm.execution.base import Execution, Given, Outcome, Turn
from fdllm.models.denoiser import Denoiser, Store
from fdllm.models.feed import Feed
from fdllm.visibility import Visibility

Body = Callable[[], Outcome]


class Recorder(ABC):
    """How a function over fixed buffers is recorded."""

    @abstractmethod
    def forget(self) -> None:
        """Let go of what records have in common, for they are gone."""

    @abstractmethod
    def warm(self, body: Body) -> Outcome:
        """Run the function once, ahead of recording it."""

    @abstractmethod
    def record(self, body: Body) -> tuple[Outcome, Callable[[], None]]:
        """Record the function and run it once; give its results, whose place is fixed, and what fills them anew."""


@final
@dataclass
class Static(Execution):
    """Replay recorded turns; records and buffers go when the store or the shape of the batch changes."""

    turn: Turn
    recorder: Recorder
    _held: dict[Hashable, Tensor] = field(default_factory=dict, init=False)
    _source: dict[Hashable, Tensor] = field(default_factory=dict, init=False)
    _bodies: dict[Hashable, Body] = field(default_factory=dict, init=False)
    _records: dict[Hashable, tuple[Outcome, Callable[[], None]]] = field(default_factory=dict, init=False)
    _of: tuple[Store | None, tuple[int, ...]] = field(default=(None, ()), init=False)

    def store(self, denoiser: Denoiser, batch: int, slots: int) -> Store:
        """Give the store that the records read where it has that size, emptied; else a new one."""
        kept, shape = self._of
        if kept is not None and shape == (batch, slots) and kept.emptied():
            return kept
        return denoiser.new_store(batch, slots)

    def __call__(self, program: Program, given: Given) -> Outcome:
        """Take a turn; see the base class."""
        of = (given.store, tuple(given.state["canvas"].shape))
        if self._of[0] is not of[0] or self._of[1] != of[1]:
            for kept in (self._held, self._source, self._records, self._bodies):
                kept.clear()
            self.recorder.forget()
            self._of = of
        held = self._fill(given)
        kind = (program.run, *_kind(held))
        if kind not in self._bodies:
            self._bodies[kind] = self._body(program, held)
            return self.recorder.warm(self._bodies[kind])
        if kind not in self._records:
            outcome, replay = self.recorder.record(self._bodies[kind])
            self._records[kind] = replace(outcome, replayed=True), replay
            return outcome
        outcome, replay = self._records[kind]
        replay()
        return outcome

    def _fill(self, given: Given) -> Given:
        """Copy what is given into the buffers; what already stands there is not copied again."""
        feed, seen = given.feed.by_tensors(), given.feed.visible
        visible = None
        if seen is not None:
            chosen = None if seen.chosen is None else self._told("chosen", seen.chosen)
            visible = Visibility(
                self._told("starts", seen.starts), self._told("ends", seen.ends), seen.num_keys, chosen
            )
        slots, window, picks = (self._told(name, getattr(feed, name)) for name in ("slots", "window", "picks"))
        return Given(
            state={name: self._state(name, value) for name, value in given.state.items()},
            numbers=self._told("numbers", given.numbers),
            row_keys=self._told("row_keys", given.row_keys),
            feed=replace(feed, slots=slots, window=window, picks=picks, visible=visible),
            store=given.store,
        )

    def _buffer(self, name: str, like: Tensor) -> tuple[Hashable, Tensor]:
        key = (name, like.shape, like.dtype)
        if key not in self._held:
            self._held[key] = like.new_empty(like.shape)
        return key, self._held[key]

    def _told(self, name: str, value: Tensor) -> Tensor:
        """Copy what a turn only reads, unless the buffer was filled from this very tensor."""
        key, buffer = self._buffer(name, value)
        if self._source.get(key) is not value:
            buffer.copy_(value)
            self._source[key] = value
        return buffer

    def _state(self, name: str, value: Tensor) -> Tensor:
        """Copy what a turn reads and writes, unless it is the buffer."""
        _, buffer = self._buffer(name, value)
        if value is not buffer:
            buffer.copy_(value)
        return buffer

    def _body(self, program: Program, held: Given) -> Body:
        def body() -> Outcome:
            # the forms of a mask made once for a plan are made in every turn here
            seen = held.feed.visible
            feed = held.feed if seen is None else replace(held.feed, visible=replace(seen))
            outcome = self.turn(program, replace(held, feed=feed))
            return replace(outcome, state=self._written(outcome.state, held.state))

        return body

    def _written(self, state: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Write the next state into its buffers; a value that lies in another's buffer is copied first."""
        taken = {buffer.untyped_storage().data_ptr() for buffer in before.values()}
        new = {name: v.clone() if v.untyped_storage().data_ptr() in taken else v for name, v in state.items()}
        return {name: self._state(name, value) for name, value in new.items()}


def _kind(held: Given) -> tuple[Hashable, ...]:
    """Give everything that a record fixes."""
    feed: Feed = held.feed
    seen = feed.visible
    parts = [] if seen is None else [seen.starts, seen.ends, seen.num_keys, seen.chosen]
    everything = [*held.state.values(), held.numbers, feed.slots, feed.window, feed.picks, *parts]
    return (feed.lengths, *((each.shape, each.dtype) if isinstance(each, Tensor) else each for each in everything))
