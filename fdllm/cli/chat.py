"""`fdllm chat`: a conversation with a model, one line a turn, the answer shown as it settles."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from fdllm.cli.options import ConfigFile, ModelPath, Overrides, Seed, decoding_config

if TYPE_CHECKING:
    from fdllm.decoder import Decoder


def chat(
    config: ConfigFile = None,
    model: ModelPath = None,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="Told to the model first.")] = None,
    overrides: Overrides = None,
    seed: Seed = None,
) -> None:
    """Talk to a model: a line is a message, an empty line or the end of input ends the conversation."""
    settings = decoding_config(config, model, overrides, seed=seed)
    decoder = settings.compile()
    console = Console(highlight=False)
    messages = [] if system is None else [{"role": "system", "content": system}]
    # a model that cannot chat says so before the first message is typed
    decoder.ids_of([[*messages, {"role": "user", "content": "?"}]])
    while message := asked(console):
        messages.append({"role": "user", "content": message})
        answer = answered(console, decoder, messages, settings.generate.seed)
        messages.append({"role": "assistant", "content": answer})


def asked(console: Console) -> str:
    """Read one message; empty at the end of input."""
    if sys.stdin.isatty():
        console.print("> ", style="bold cyan", end="")
    return sys.stdin.readline().strip()


def answered(console: Console, decoder: "Decoder", messages: list[dict[str, str]], seed: int) -> str:
    """Decode one turn; in a terminal the canvas settles in place, elsewhere the answer is printed."""
    if not console.is_terminal:
        (answer,) = decoder.generate([messages], seed=seed).text or [""]
        print(answer.strip(), flush=True)
        return answer
    answer = ""
    with Live(console=console, auto_refresh=False) as live:
        for event in decoder.stream([messages], seed):
            answer = event.committed
            shown = Text(event.text.strip("\n") if not event.done else answer.strip())
            shown.highlight_regex("\u2591+", "dim cyan")
            live.update(shown, refresh=True)
    return answer
