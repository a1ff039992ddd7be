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
    print(decoding_config(config, model, overrides).compile().explain(source=source))
