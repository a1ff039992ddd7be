"""The trace of a run: what every step did to every row, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fdllm.caches.base import Rows


@dataclass(frozen=True)
class Place:
    """Where in a run a step stands; see `Move`."""

    forward: int
    phase: str
    block: int
    step: int


@dataclass(frozen=True)
class Move:
    """What one step did to one row. Slots are of the response: 0 is the first after the prompt.

    Attributes:
        row: index of the row in the call.
        forward: index of the forward in the run.
        phase: kind of forward.
        block, step: index of the window, and of the step in it.
        computed: slots of the row's canvas that were recomputed, prompt included; ascending.
        window: the slots that could be decided.
        candidates: id that would be committed, for each slot of the window.
        confidence: probability of each candidate.
        committed, reopened: slots changed by the step.

    """

    row: int
    forward: int
    phase: str
    block: int
    step: int
    computed: range | tuple[int, ...]
    window: range
    candidates: tuple[int, ...]
    confidence: tuple[float, ...]
    committed: tuple[int, ...]
    reopened: tuple[int, ...]


def moves(
    at: Place,
    rows: Sequence[int],
    windows: Sequence[range],
    plans: Sequence[Rows | None],
    values: Mapping[str, Any],
) -> list[Move]:
    """Read what a step did from the device, for each row of the batch that did not wait.

    Args:
        at: the step.
        rows: index in the call of each row of the batch.
        windows: their decode windows, in slots of the response.
        plans: what each row recomputed, None where it waited.
        values: what the step program gave out, with `candidate`, `confidence` and `committed`.

    """
    candidates, confidence, committed = (values[name].tolist() for name in ("candidate", "confidence", "committed"))
    reopened = values["reopened"].tolist() if "reopened" in values else [[]] * len(plans)
    return [
        Move(
            row=row,
            forward=at.forward,
            phase=at.phase,
            block=at.block,
            step=at.step,
            computed=plan.compute,
            window=window,
            candidates=tuple(candidates[i][: len(window)]),
            confidence=tuple(confidence[i][: len(window)]),
            committed=_chosen(window, committed[i]),
            reopened=_chosen(window, reopened[i]),
        )
        for i, (row, window, plan) in enumerate(zip(rows, windows, plans, strict=True))
        if plan is not None
    ]


def _chosen(window: range, flags: Sequence[bool]) -> tuple[int, ...]:
    return tuple(slot for slot, chosen in zip(window, flags, strict=False) if chosen)
