"""`fdllm explain`: print the step graph after each pass, and the program it became."""

from typing import Annotated

import typer

from fdllm.cli.options import ConfigFile, ModelPath, Overrides, decoding_config


def explain(
    config: ConfigFile = None,
    model: ModelPath = None,
    overrides: Overrides = None,
    source: Annotated[bool, typer.Option("--source", help="Print the emitted Python of every phase too.")] = False,
) -> None:
    """Show what a decoding step is compiled to."""
    # a step is the same in each of the processes that share a model, so one will do
    alone = decoding_config(config, model, overrides).with_overrides(["model.tp=1"])
    print(alone.compile().explain(source=source))
