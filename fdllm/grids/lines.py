"""The lines of the table: what a cell's batches add up to, beside the first cell of its group."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fdllm.grids.cells import Cell
from fdllm.grids.intervals import median_and_range, paired_difference, wilson
from fdllm.grids.measure import Taken

Range = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One decoder's results; times in seconds, memory in bytes.

    Attributes:
        name: of the cell.
        row: of the row it belongs to.
        axes: what the axes set, by key.
        sweep: what the row's sweep set, by key.
        problems: how many were asked.
        right: how many were right.
        accuracy: their share.
        accuracy_interval: its bounds at 95 %, Wilson's.
        accuracy_difference: accuracy less that of the first row of the group.
        accuracy_difference_interval: its bounds at 95 %, of pairs.
        tokens_per_second: visible tokens / decode time, the median of the samples.
        tokens_per_second_range: least and greatest of the samples.
        speedup: the same over the first row's of the group in the same sample, the median; None
            where no token was visible.
        speedup_range: least and greatest of the samples.
        nfe: forwards a problem took part in, on average; None where a decoder does not say.
        tokens_per_forward: visible tokens / forwards.
        refresh_share: time in refresh forwards / decode time; None for an external decoder.
        visible_tokens: of a problem, on average.
        seconds: decode time of a problem, on average.
        peak_memory: bytes held at most.
        record: what decoded.

    """

    name: str
    row: str
    axes: dict[str, Any]
    sweep: dict[str, Any]
    problems: int
    right: int
    accuracy: float
    accuracy_interval: Range
    accuracy_difference: float
    accuracy_difference_interval: Range
    tokens_per_second: float
    tokens_per_second_range: Range
    speedup: float | None
    speedup_range: Range | None
    nfe: float | None
    tokens_per_forward: float | None
    refresh_share: float | None
    visible_tokens: float
    seconds: float
    peak_memory: int | None
    record: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for a report."""
        return asdict(self)


def lines(cells: Sequence[Cell], taken: Sequence[Taken], samples: int) -> list[Line]:
    """Sum a group up.

    Args:
        cells: of the group, the one compared with first.
        taken: what was measured, every batch of every cell.
        samples: parts the batches are dealt into, at most one for each batch.

    """
    of_cell = {cell.name: sorted((t for t in taken if t.cell == cell.name), key=lambda t: t.batch) for cell in cells}
    first = of_cell[cells[0].name]
    return [_line(cell, of_cell[cell.name], first, min(samples, len(first))) for cell in cells]


def _line(cell: Cell, own: Sequence[Taken], first: Sequence[Taken], samples: int) -> Line:
    rights = [right for each in own for right in each.right]
    tokens, seconds = sum(sum(each.tokens) for each in own), sum(each.seconds for each in own)
    nfe = None if any(each.nfe is None for each in own) else sum(sum(each.nfe or ()) for each in own)
    refresh = [each.refresh_seconds for each in own]
    difference, *bounds = paired_difference(rights, [right for each in first for right in each.right])
    speeds, theirs = _speeds(own, samples), _speeds(first, samples)
    ratios = [one / other for one, other in zip(speeds, theirs, strict=True) if other]
    speed, ratio = median_and_range(speeds), median_and_range(ratios) if ratios else None
    peaks = [each.peak_memory for each in own if each.peak_memory is not None]
    return Line(
        name=cell.name,
        row=cell.row,
        axes=dict(cell.axes),
        sweep=dict(cell.sweep),
        problems=len(rights),
        right=sum(rights),
        accuracy=sum(rights) / len(rights),
        accuracy_interval=wilson(sum(rights), len(rights)),
        accuracy_difference=difference,
        accuracy_difference_interval=(bounds[0], bounds[1]),
        tokens_per_second=speed[0],
        tokens_per_second_range=speed[1:],
        speedup=ratio[0] if ratio else None,
        speedup_range=ratio[1:] if ratio else None,
        nfe=None if nfe is None else nfe / len(rights),
        tokens_per_forward=tokens / nfe if nfe else None,
        refresh_share=None if any(each is None for each in refresh) else sum(filter(None, refresh)) / seconds,
        visible_tokens=tokens / len(rights),
        seconds=seconds / len(rights),
        peak_memory=max(peaks, default=None),
        record=own[0].record or {},
    )


def _speeds(taken: Sequence[Taken], samples: int) -> list[float]:
    """Visible tokens a second of each sample; batches are dealt in turn, so every sample is spread over the run."""
    dealt = [taken[at::samples] for at in range(samples)]
    return [sum(sum(each.tokens) for each in part) / sum(each.seconds for each in part) for part in dealt]
