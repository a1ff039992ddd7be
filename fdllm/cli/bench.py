"""`fdllm bench`: the rows of a grid side by side, quality and speed, into a table, a folder of files and plots."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fdllm.cli.options import Json, named

if TYPE_CHECKING:
    from fdllm.grids.lines import Line
    from fdllm.grids.session import Session


def bench(
    grid: Annotated[
        str | None,
        typer.Argument(metavar="GRID", help="A grid file, or the name of a built-in grid. [default: list them]"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Problems asked, bench.problems.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder for results.json, CSV and plots; a killed run goes on there."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="PATH", help="A hub id, a folder or a built-in name, for every row."),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="TASK", help="A name of `fdllm list tasks`, or a .jsonl file.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Change a setting in every row; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a grid of decoders over a task: accuracy, tokens/s, speed-up, forwards, memory."""
    from fdllm.component import SettingError
    from fdllm.grids.changes import changed
    from fdllm.grids.grid import Grid, built_in
    from fdllm.grids.report import Report
    from fdllm.grids.session import Session

    if grid is None:
        if any(given is not None for given in (limit, out, model, task, overrides)):
            raise SettingError(f"GRID: wanted a grid to run, a file or one of {', '.join(built_in())}")
        for name in built_in():
            print(f"{name:20}{Grid.read(name).title}")
        return
    settings = [] if task is None else of_task(task)
    settings += [] if model is None else [named("model.path", model)]
    settings += [] if limit is None else [f"bench.problems={limit}"]
    session = Session(changed(Grid.read(grid), [*settings, *(overrides or [])]))
    report = Report.of(session, measured(session, out))
    print(json.dumps(report.to_dict()) if as_json else report.text())
    if out is not None:
        written = report.write(out)
        typer.echo(f"written: {', '.join(map(str, written))}", err=True)
        if find_spec("matplotlib") is None:
            typer.echo(
                "no plots: they need matplotlib; pip install 'fdllm[bench]', then give the command again", err=True
            )


def of_task(given: str) -> list[str]:
    """Write `--task` as settings: a name, or a file of problems."""
    return ["task=jsonl", named("task.path", given)] if given.endswith(".jsonl") else [named("task.name", given)]


def measured(session: "Session", out: Path | None) -> "list[list[Line]]":
    """Measure with a bar on stderr that says what is decoded and how much time is left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # one decode may take longer than the half minute that rich looks back on
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=3600) as progress:
        return session.measure(out, Bar(progress, session.total))


class Bar:
    """A bar of a progress display, as a session's watcher."""

    def __init__(self, progress: Progress, total: int) -> None:
        """Begin it at nothing."""
        self.progress, self.count = progress, 0
        self.task = progress.add_task("", total=total)

    def begin(self, name: str) -> None:
        """Say what is decoded."""
        self.progress.update(self.task, description=name)

    def done(self, count: int) -> None:
        """Go on by so many decodes."""
        self.count += count
        self.progress.advance(self.task, count)

    def found(self, count: int) -> None:
        """Go on by so many that took no time, which tell nothing of the time left."""
        self.count += count
        if count:
            self.progress.reset(self.task, completed=self.count)
