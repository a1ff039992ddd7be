"""What a cache policy is: the answer, at every step, to which slots are recomputed.

There is one K/V store, addressed by slot. A forward computes a set of slots and overwrites
their own entries; every other slot is read as stored.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from fdllm.component import Component


@dataclass(frozen=True)
class Step:
    """What a cache policy is told of one row before a forward: plain ints, in slots of that row.

    Attributes:
        start, end: the decode window is `[start, end)`.
        length: slots of the row's canvas, prompt included; slots are `[0, length)`.
        prompt: slots of the prompt, `[0, prompt)`.
        block: index of the window among the windows of the response.
        index: step in this window, 0 for its first forward.
        pattern: who attends to whom in the model, `full`, `block-causal` or `causal-prefix`.
        model_block: slots of one block of a block-causal model, counted from slot 0.
        look: reads `stale` or `open_slots` from the device; use the properties.

    """

    start: int
    end: int
    length: int
    prompt: int
    block: int
    index: int
    pattern: str
    model_block: int
    look: Callable[[str], list[int]] = lambda _: []

    @cached_property
    def stale(self) -> tuple[int, ...]:
        """Slots whose token changed since their K/V was computed. Reading it waits for the device."""
        return tuple(self.look("stale"))

    @cached_property
    def open_slots(self) -> tuple[int, ...]:
        """Slots not decided yet. Reading it waits for the device."""
        return tuple(self.look("open_slots"))

    @property
    def unsettled(self) -> range:
        """Slots up to the end of the block whose K/V may not be final, where later blocks cannot change it.

        That is the model's block around the window (the window itself after a causal prefix), and at
        its first step also the block before, which has just been filled, or the prompt.
        """
        if self.pattern == "causal-prefix":
            begin, end, size = self.start, self.end, self.end - self.start
        else:
            size = self.model_block
            begin = self.start // size * size
            end = min(begin + size, self.length)
        if self.index == 0 and self.block == 0:
            begin = 0
        elif self.index == 0 and begin == self.start:
            begin -= size
        return range(begin, end)


@dataclass(frozen=True)
class Rows:
    """Slots of one row to recompute, and the slots the row's queries may attend to.

    Attributes:
        compute: a `range` (contiguous, the fast form) or ascending slots.
        visible: the same for keys; None shows every slot of the row.

    """

    compute: range | tuple[int, ...]
    visible: range | tuple[int, ...] | None = None


class CachePolicy(Component):
    """Say before each forward which slots of a row are recomputed.

    Laws, checked by `fdllm.testing.check_cache`:
        every open slot of the window is recomputed;
        the answer depends on the `Step` alone;
        a row's tokens do not depend on its batch;
        wrapped to recompute every slot, decoding equals the reference token for token;
        with `exact`, decoding equals the reference as it is.

    Attributes:
        stores: keeps K/V between forwards; False means every forward is whole and nothing is kept.
        fresh: slots whose signals every step computes anew: the `open` ones or the whole `window`.
        freezes: some slot may keep the K/V of a token that has changed until the run ends.
        exact: nothing served is ever older than an uncached forward would compute.
        patterns: attention patterns the rule is meant for.

    """

    stores: ClassVar[bool] = True
    fresh: ClassVar[Literal["open", "window"]] = "window"
    freezes: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    patterns: ClassVar[tuple[str, ...]] = ("full",)

    @abstractmethod
    def rows(self, step: Step) -> Rows:
        """Answer for one row and one step, without touching the device."""
