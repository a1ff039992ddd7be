"""The report of a grid: a table for people, `results.json` and `results.csv` for machines, plots."""

import csv
import io
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fdllm.grids.lines import Line
from fdllm.grids.session import Session
from fdllm.journal import write_whole

COLUMNS = (
    "name", "problems", "accuracy", "interval", "tokens/s", "speed-up", "NFE", "tokens/forward", "refresh", "memory",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What a grid gave.

    Attributes:
        title: of the grid.
        about: machine, versions, task and how it was timed.
        groups: the lines, a list for each point of the axes; the first of each is what the others are compared with.

    """

    title: str
    about: dict[str, Any]
    groups: list[list[Line]]

    @classmethod
    def of(cls, session: Session, groups: list[list[Line]]) -> "Report":
        """Put a session's lines together with what they were measured on."""
        return cls(session.grid.title, {**session.record(), "bench": session.grid.bench.model_dump()}, groups)

    def text(self) -> str:
        """Give the table, and beneath it how to read it."""
        parts = [self.title] if self.title else []
        for group in self.groups:
            parts.append(aligned([COLUMNS, *(shown(line) for line in group)]))
        parts.append(
            f"{self.about['machine']}. Accuracy with its 95 % interval; tokens/s: visible tokens / decode time, the "
            "median of the samples (their range); speed-up over the first row; NFE: forwards a problem."
        )
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; `rows` in the order of the table."""
        rows = [line.to_dict() for group in self.groups for line in group]
        return {"title": self.title, "about": self.about, "rows": rows}

    def write(self, folder: Path) -> list[Path]:
        """Write results.json, results.csv and, where matplotlib is installed, the plots; give what was written."""
        write_whole(folder / "results.json", json.dumps(self.to_dict(), indent=1))
        write_whole(folder / "results.csv", self.csv().rstrip("\n"))
        written = [folder / "results.json", folder / "results.csv"]
        if find_spec("matplotlib") is not None:
            from fdllm.grids.plots import draw

            written += draw(self.to_dict(), folder)
        return written

    def csv(self) -> str:
        """Give the rows as CSV: one column for each value, an interval as two."""
        rows = [flat_line(line) for group in self.groups for line in group]
        out = io.StringIO()
        writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()


def shown(line: Line) -> tuple[str, ...]:
    """Write a line for people, in the order of `COLUMNS`."""
    low, high = line.accuracy_interval
    slow, fast = line.tokens_per_second_range
    return (
        line.name,
        str(line.problems),
        f"{line.accuracy:.1%}",
        f"{100 * low:.1f}-{100 * high:.1f}",
        f"{line.tokens_per_second:.1f} ({slow:.1f}-{fast:.1f})",
        "-" if line.speedup is None else f"{line.speedup:.2f}x",
        "-" if line.nfe is None else f"{line.nfe:.1f}",
        "-" if line.tokens_per_forward is None else f"{line.tokens_per_forward:.2f}",
        "-" if line.refresh_share is None else f"{line.refresh_share:.0%}",
        "-" if line.peak_memory is None else f"{line.peak_memory / 2**20:.0f} MiB",
    )


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Align columns, the first one to the left, with a rule beneath the first row."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    written = ["  ".join(_padded(cell, widths[at], at) for at, cell in enumerate(row)).rstrip() for row in rows]
    return "\n".join([written[0], "-" * len(written[0]), *written[1:]])


def flat_line(line: Line) -> dict[str, Any]:
    """Write a line's plain values; axes and sweeps as columns of their own, what decoded left out."""
    flat: dict[str, Any] = {}
    for key, value in line.to_dict().items():
        if key in ("axes", "sweep"):
            flat |= value
        elif key.endswith(("_interval", "_range")):
            flat[f"{key}_low"], flat[f"{key}_high"] = value or (None, None)
        elif key != "record":
            flat[key] = value
    return flat


def _padded(cell: str, width: int, at: int) -> str:
    return cell.rjust(width) if at else cell.ljust(width)
