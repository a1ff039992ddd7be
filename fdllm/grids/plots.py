"""Plots of a report, drawn from its plain values: accuracy against speed and against tokens a forward, and sweeps."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = dict[str, Any]
AGAINST = {
    "accuracy-speed.png": ("tokens_per_second", "tokens/s"),
    "accuracy-forward.png": ("tokens_per_forward", "tokens per forward"),
}


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what the rows allow.

    Args:
        report: what `Report.to_dict` gives, or was read from a results.json.
        folder: where the files go.

    Returns:
        The files written.

    """
    rows: list[Row] = report["rows"]
    written: list[Path] = []
    for name, (key, label) in AGAINST.items():
        if all(row[key] is not None for row in rows):
            _save(_against(rows, key, label), folder / name, written)
    for key in dict.fromkeys(key for row in rows for key in row["sweep"]):
        _save(_sweep(rows, key), folder / f"sweep-{key}.png", written)
    return written


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Give the points that no other one beats in both values, by the first value.

    A point is beaten by one that is at least as great in both and greater in one.
    """
    kept: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept[::-1]


def groups_of(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Give the rows of each point of the axes, and what the axes are there."""
    titles = [", ".join(f"{key.partition('.')[2]} {value}" for key, value in row["axes"].items()) for row in rows]
    for title in dict.fromkeys(titles):
        yield title, [row for row, own in zip(rows, titles, strict=True) if own == title]


def _against(rows: Sequence[Row], key: str, label: str) -> Figure:
    groups = list(groups_of(rows))
    columns = min(3, len(groups))
    height = -(-len(groups) // columns)
    figure = Figure(figsize=(max(6.4, 4.4 * columns), 4.2 * height), layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False).flatten()
    for panel, (title, group) in zip(panels, groups, strict=False):
        for name in dict.fromkeys(row["row"] for row in group):
            own = [row for row in group if row["row"] == name]
            _with_bars(panel, [row[key] for row in own], own, name)
        best = front([(row[key], 100 * row["accuracy"]) for row in group])
        panel.step(*zip(*best, strict=True), where="pre", color="0.6", linestyle=":", zorder=0, label="Pareto front")
        panel.set(title=title, xlabel=label, ylabel="accuracy, %", xscale="log")
        panel.grid(alpha=0.3, which="both")
        panel.legend(fontsize=8)
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    return figure


def _sweep(rows: Sequence[Row], key: str) -> Figure:
    """Draw accuracy and tokens/s over the values of one key; rows without it as level lines."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    accuracy, speed = figure.subplots(1, 2)
    for title, group in groups_of(rows):
        for name in dict.fromkeys(row["row"] for row in group):
            own = [row for row in group if row["row"] == name]
            label = f"{name}, {title}" if title else name
            if all(key in row["sweep"] for row in own):
                for others in dict.fromkeys(_others(row, key) for row in own):
                    line = [row for row in own if _others(row, key) == others]
                    along = [row["sweep"][key] for row in line]
                    told = ", ".join([label, *others])
                    _with_bars(accuracy, along, line, told)
                    speed.plot(along, [row["tokens_per_second"] for row in line], "o-", label=told)
            elif len(own) == 1:
                level = accuracy.axhline(100 * own[0]["accuracy"], linestyle="--", color="0.5")
                speed.axhline(own[0]["tokens_per_second"], linestyle="--", color="0.5")
                level.set_label(label)
    accuracy.set(xlabel=key, ylabel="accuracy, %")
    speed.set(xlabel=key, ylabel="tokens/s", yscale="log")
    for panel in (accuracy, speed):
        panel.grid(alpha=0.3, which="both")
    accuracy.legend(fontsize=8)
    return figure


def _others(row: Row, key: str) -> tuple[str, ...]:
    """Write what else a sweep set."""
    return tuple(f"{path.partition('.')[2]} {value}" for path, value in row["sweep"].items() if path != key)


def _with_bars(panel: Axes, along: Sequence[float], rows: Sequence[Row], label: str) -> None:
    """Draw accuracy in percent with its interval."""
    middle = [100 * row["accuracy"] for row in rows]
    below = [at - 100 * row["accuracy_interval"][0] for at, row in zip(middle, rows, strict=True)]
    above = [100 * row["accuracy_interval"][1] - at for at, row in zip(middle, rows, strict=True)]
    panel.errorbar(along, middle, yerr=[below, above], fmt="o-" if len(rows) > 1 else "o", capsize=2, label=label)


def _save(figure: Figure, file: Path, written: list[Path]) -> None:
    figure.savefig(file, dpi=90)
    written.append(file)
