"""What a forward computes: ask the cache about every row, and make the index tensors of its answers.

All of it is host-side arithmetic on plain ints. A row whose window is full waits for the others:
with a store it is computed into the scratch slot, so that nothing of it depends on neighbours.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fdllm.caches.base import CachePolicy, Rows, Step
from fdllm.canvas import Canvas
from fdllm.compiler import UnsoundError
from fdllm.models.feed import Feed, feed
from fdllm.models.spec import Spec


@dataclass(frozen=True)
class Planned:
    """The next forward.

    Attributes:
        phase: which program runs it: `full`, `refresh` or `reuse`.
        plans: what each row of the batch recomputes; None for a row that waits.
        feed: the same as index tensors.

    """

    phase: str
    plans: list[Rows | None]
    feed: Feed


@dataclass
class Planner:
    """Plans the forwards of one run; keeps the index tensors while the plan stays the same."""

    spec: Spec
    cache: CachePolicy
    _made: tuple[Any, Feed] | None = field(default=None, init=False)

    def plan(self, canvas: Canvas, windows: list[range], block: int, index: int, waiting: list[bool]) -> Planned:
        """Plan step `index` of each row's window, in slots of the row.

        Raises:
            UnsoundError: the cache leaves out an open slot of the window, or names one outside the canvas.

        """
        plans = [
            None if waits else self._ask(canvas, i, slots, block, index)
            for i, (slots, waits) in enumerate(zip(windows, waiting, strict=True))
        ]
        return Planned(self._phase(plans, canvas), plans, self._feed(plans, windows, canvas))

    def _ask(self, canvas: Canvas, i: int, window: range, block: int, index: int) -> Rows:
        """Ask the cache about one row, and hold what it must answer."""
        step = Step(
            start=window.start,
            end=window.stop,
            length=canvas.lengths[i],
            prompt=canvas.prompts[i],
            block=block,
            index=index,
            pattern=self.spec.pattern,
            model_block=self.spec.block_length,
            look=partial(canvas.look, i),
        )
        plan = self.cache.rows(step)
        if not isinstance(plan, Rows):
            raise UnsoundError(f"{self.cache!r}: rows() returned {type(plan).__name__}, wanted Rows")
        compute = plan.compute
        if isinstance(compute, range) and compute.step == 1 and compute.start >= 0 and compute.stop <= step.length:
            if compute.start <= window.start and window.stop <= compute.stop:
                return plan
        elif sorted({*compute}) != [*compute] or not {*compute} <= {*range(step.length)}:
            raise UnsoundError(f"{self.cache!r}: rows() must name ascending slots in [0, {step.length}), got {compute}")
        still_open = [slot for slot in step.open_slots if slot in window]
        if missing := sorted(set(still_open) - set(compute)):
            raise UnsoundError(
                f"{self.cache!r} leaves out open slots {missing[:5]} of the window [{window.start}, "
                f"{window.stop}); rows() must contain every open slot of the window"
            )
        return plan

    def _phase(self, plans: list[Rows | None], canvas: Canvas) -> str:
        if not self.cache.stores:
            return "full"
        each = zip(plans, canvas.lengths, strict=True)
        return "refresh" if all(plan is None or len(plan.compute) == length for plan, length in each) else "reuse"

    def _feed(self, plans: list[Rows | None], windows: list[range], canvas: Canvas) -> Feed:
        """Make the index tensors. Without a store a forward's own rows are the keys, so all are computed."""
        if not self.cache.stores:
            plans = [plan or Rows(range(length)) for plan, length in zip(plans, canvas.lengths, strict=True)]
        key = (plans, windows, canvas.prompts)
        if self._made is None or self._made[0] != key:
            made = feed(self.spec, plans, windows, canvas.lengths)
            self._made = (key, made.to(canvas.tokens.device))
        return self._made[1]
