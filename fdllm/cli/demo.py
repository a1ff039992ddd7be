"""`fdllm demo`: watch the built-in model solve a word problem it has never seen."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from fdllm.cli.options import Overrides

if TYPE_CHECKING:
    from fdllm.generation import Event, Generation
    from fdllm.tiny.problems import Problem

SETTINGS = {
    "generate": {"max_new_tokens": 96},
    "cache": {"name": "dual"},
    "policy": {"name": "threshold", "threshold": 0.9},
}


def demo(
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which problem to draw.")] = 0,
    overrides: Overrides = None,
    delay: Annotated[float, typer.Option("--delay", min=0, help="Seconds to show each step in a terminal.")] = 0.08,
) -> None:
    """Draw a held-out word problem and show the canvas settling, then the answer and the speed."""
    from fdllm.config import DecodingConfig
    from fdllm.tiny.problems import problems

    decoder = DecodingConfig.from_dict(SETTINGS).with_overrides(overrides or []).compile()
    problem = next(problems(seed, "test"))
    console = Console(highlight=False)
    events = decoder.stream(problem.question, seed)
    if console.is_terminal:
        animate(console, problem, events, delay)
    else:
        describe(console, problem, events)
    # once more without the display in between, so that the times are the decoder's own
    verdict(console, problem, decoder.generate(problem.question, seed))


def animate(console: Console, problem: "Problem", events: Iterator["Event"], delay: float) -> None:
    """Redraw the canvas at every step."""
    with Live(console=console, auto_refresh=False) as live:
        for event in events:
            live.update(picture(problem, event), refresh=True)
            time.sleep(delay)


def picture(problem: "Problem", event: "Event") -> Group:
    """Draw question, canvas and progress; open slots are shade blocks."""
    canvas = Text(event.text.strip("\n"))
    canvas.highlight_regex("\u2591+", "dim cyan")
    settled = int((~event.open).sum())
    foot = f"forward {event.nfe}, {settled} of {len(event.open)} slots settled"
    return Group(
        Text(problem.question, "bold"), Panel(canvas, subtitle=foot, subtitle_align="right", border_style="cyan")
    )


def describe(console: Console, problem: "Problem", events: Iterator["Event"]) -> None:
    """Print the canvas a few times, for a pipe or a log."""
    console.print(problem.question, markup=False, soft_wrap=True)
    # the last step is shown as the result, which stands for it
    *steps, _, last = events
    for event in (*steps[:: len(steps) // 4 + 1], last):
        flat = event.text.replace("\n", " ").rstrip("\u2591 ")
        console.print(f"  after {event.nfe:3} forwards: {flat}", markup=False, soft_wrap=True)


def verdict(console: Console, problem: "Problem", out: "Generation") -> None:
    """Print the answer, whether it is right, and one line of speed."""
    from fdllm.tiny.problems import answer_of

    found = answer_of(out.text[0]) if out.text else None
    right = found == problem.answer
    mark = Text("right", "bold green") if right else Text(f"wrong, it is {problem.answer}", "bold red")
    console.print(Text.assemble(("answer: ", "bold"), str(found), " (", mark, ")"))
    stats = out.stats
    console.print(
        f"{stats.tokens_per_second:.0f} tokens/s, NFE {out.nfe}, {stats.tokens_per_forward:.2f} tokens per forward",
        soft_wrap=True,
    )
