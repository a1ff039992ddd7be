"""Write the page of results from the results.json files under a folder, and their plots again.

    python -m fdllm.grids.results docs/benchmarks/grids docs/results.md

What the page says of the paper's claims is computed from the rows; nothing in it is written by hand.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fdllm.grids.claims import CLAIMS
from fdllm.grids.plots import draw, groups_of

Row = dict[str, Any]

HEAD = """# Results

<!-- written by `make results` from docs/benchmarks/grids; do not edit -->

What the built-in model shows of the claims of Fast-dLLM (Wu et al. 2025, arXiv:2505.22618). It is a model of 1.29 M
parameters on synthetic word problems ([its card](../fdllm/tiny/weights/README.md)), and these are tokens a second of a
processor: ratios are what to compare with the paper's, not the figures. How everything is measured:
[benchmarking.md](benchmarking.md). Accuracy stands with its 95 % interval; *difference* is that to the first row on the
same problems, in points, with an interval for pairs. Speed-ups are over the first row of each table.
"""


def page(folder: Path, target: Path) -> str:
    """Give the page.

    Args:
        folder: has a folder with results.json for each grid.
        target: where the page will lie, for its links.

    """
    reports = {file.parent.name: json.loads(file.read_text()) for file in sorted(folder.glob("*/results.json"))}
    parts = [HEAD, "## What it shows\n", *(claim(reports) for claim in CLAIMS)]
    for name, report in reports.items():
        parts += [f"## {report['title']}\n", *_tables(report), _made(name, report)]
        parts += [
            f"![{file.stem}]({file.relative_to(target.parent)})\n" for file in sorted(folder.glob(f"{name}/*.png"))
        ]
    return "\n".join(parts)


def _tables(report: dict[str, Any]) -> Iterator[str]:
    for title, rows in groups_of(report["rows"]):
        yield f"### {title}\n" if title else ""
        yield "| row | accuracy | difference | tokens/s | speed-up | NFE | tokens/forward | refresh |"
        yield "|---|---|---|---|---|---|---|---|"
        yield from (_line(row) for row in rows)
        yield ""


def _line(row: Row) -> str:
    name = ", ".join(
        [row["row"], *(f"{key.partition('.')[2].replace('_', ' ')} {at}" for key, at in row["sweep"].items())]
    )
    low, high = row["accuracy_interval"]
    less, more = row["accuracy_difference_interval"]
    return (
        f"| {name} | {100 * row['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f}) "
        f"| {100 * row['accuracy_difference']:+.1f} ({100 * less:+.1f} to {100 * more:+.1f}) "
        f"| {row['tokens_per_second']:.0f} | {_known(row, 'speedup', '.2f')} x | {_known(row, 'nfe', '.1f')} "
        f"| {_known(row, 'tokens_per_forward', '.2f')} | {_known(row, 'refresh_share', '.0%')} |"
    )


def _known(row: Row, key: str, form: str) -> str:
    return "-" if row[key] is None else format(row[key], form)


def _made(name: str, report: dict[str, Any]) -> str:
    about, rows = report["about"], report["rows"]
    return (
        f"{rows[0]['problems']} problems a row, {about['machine']}, torch {about['torch']}; "
        f"`{name}/results.json` has every figure.\n"
    )


def main() -> None:
    """Write the plots and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="has a folder with results.json for each grid")
    parser.add_argument("page", type=Path, help="the file to write")
    args = parser.parse_args()
    for file in args.folder.glob("*/results.json"):
        draw(json.loads(file.read_text()), file.parent)
    args.page.write_text(page(args.folder, args.page))


if __name__ == "__main__":
    main()
