"""The index tensors of one forward: which slots are computed, which rows predict the window, who sees whom.

This is where shift, padding and attention pattern are turned into indices, on the host, once
per change of plan; the loop and the step graph see none of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fdllm.caches.base import Rows
from fdllm.models.spec import Spec
from fdllm.transfer import to_device
from fdllm.visibility import Visibility

Slots = range | tuple[int, ...]


@dataclass(frozen=True)
class Feed:
    """What a forward is given besides the canvas and the store.

    Attributes:
        slots: slots to compute, int64[B R]; padded with the scratch slot N.
        window: slots of the decode window, int64[B W]; shorter ones are padded with slot 0, never open.
        picks: for each slot of the window, the row of this forward that predicts it, int64[B W].
        visible: the slots each computed slot may attend to, or None where that is every slot.
        span: the slots as one range, where all rows compute the same contiguous ones; else None.
        lengths: slots each row really has.
        rows: slots computed, padding left out.

    """

    slots: Tensor
    window: Tensor
    picks: Tensor
    visible: Visibility | None
    span: range | None
    lengths: tuple[int, ...]
    rows: int

    def to(self, device: torch.device) -> "Feed":
        """Copy with its tensors on a device."""
        visible = None if self.visible is None else self.visible.to(device)
        slots, window, picks = (to_device(part, device) for part in (self.slots, self.window, self.picks))
        return replace(self, slots=slots, window=window, picks=picks, visible=visible)

    def by_tensors(self) -> "Feed":
        """Copy whose slots are told by tensors alone, so that other slots are other contents and not other numbers."""
        return replace(self, span=None)


def feed(spec: Spec, plans: list[Rows | None], windows: list[range], lengths: list[int]) -> Feed:
    """Turn each row's plan into index tensors on the CPU.

    Args:
        spec: says whether predictions are shifted and who may attend to whom.
        plans: what each row recomputes; None for a row that waits.
        windows: the decode window of each row, in slots of the row.
        lengths: slots each row has; the largest is N, the number of slots of the canvas.

    """
    num_slots = max(lengths)
    computed = [() if p is None else _with_shift(p.compute, w, spec.shift) for p, w in zip(plans, windows, strict=True)]
    slots = _table(computed, num_slots)
    picks = _table([_picks(each, w, spec.shift) for each, w in zip(computed, windows, strict=True)], 0)
    first = computed[0]
    span = first if isinstance(first, range) and all(each == first for each in computed) else None
    visible = _visible(spec, plans, slots, windows, lengths)
    return Feed(slots, _table(windows, 0), picks, visible, span, tuple(lengths), sum(map(len, computed)))


def whole(spec: Spec, batch: int, length: int) -> Feed:
    """Feed every slot of rows of one length, on the CPU; the window is the last block, as a causal prefix wants it."""
    window = range(max(1, length - spec.block_length), length)
    return feed(spec, [Rows(range(length))] * batch, [window] * batch, [length] * batch)


def _table(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Stack rows of unequal length, int64[B, longest]."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *(fill,) * (width - len(row))] for row in rows], dtype=torch.int64)


def _with_shift(compute: Slots, window: range, shift: bool) -> Slots:
    """Add the slot left of the window, whose row predicts the window's first slot."""
    left = window.start - 1
    if not shift or left in compute:
        return compute
    if isinstance(compute, range) and compute.start == window.start:
        return range(left, compute.stop)
    return tuple(sorted({left, *compute}))


def _picks(computed: Slots, window: range, shift: bool) -> list[int]:
    """Find the row of the forward that predicts each slot of the window; 0 for a slot not computed."""
    row = {slot: i for i, slot in enumerate(computed)}
    return [row.get(slot - shift, 0) for slot in window]


def _visible(
    spec: Spec, plans: list[Rows | None], slots: Tensor, windows: list[range], lengths: list[int]
) -> Visibility | None:
    """Say which slots may be attended to, or None where that is all of them."""
    num_slots = max(lengths)
    shown = [plan.visible if plan is not None and plan.visible is not None else range(num_slots) for plan in plans]
    if spec.pattern == "full" and min(lengths) == num_slots and all(each == range(num_slots) for each in shown):
        return None
    ranges = [each if isinstance(each, range) and each.step == 1 else range(num_slots) for each in shown]
    starts = torch.tensor([[max(each.start, 0)] for each in ranges], dtype=torch.int32)
    ends = torch.tensor([[min(e.stop, n)] for e, n in zip(ranges, lengths, strict=True)], dtype=torch.int32)
    if spec.pattern == "block-causal":
        ends = ends.minimum((slots // spec.block_length + 1) * spec.block_length).int()
    if spec.pattern == "causal-prefix":
        first, last = (torch.tensor([[getattr(w, edge)] for w in windows]) for edge in ("start", "stop"))
        ends = ends.minimum(torch.where(slots < first, slots + 1, last)).int()
    chosen = None if ranges == shown else torch.stack([_among(each, num_slots) for each in shown])
    return Visibility(starts, ends, num_slots, chosen)


def _among(slots: Slots, num_slots: int) -> Tensor:
    """Mark the slots, bool[N]."""
    return torch.isin(torch.arange(num_slots), torch.tensor([*slots], dtype=torch.int64))
