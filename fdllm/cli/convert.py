"""`fdllm convert`: write a checkpoint of any family as a native one."""

from pathlib import Path
from typing import Annotated

import typer

from fdllm.cli.options import Overrides, decoding_config


def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A hub id, a folder or a built-in model.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The folder to write; absent or empty.")],
    overrides: Overrides = None,
) -> None:
    """Write a checkpoint under the names of its backbone, with its conventions: transformers loads it, tp shares it.

    `--set` takes `model.dtype`, `model.family` and the conventions, such as `model.block_length=8`; they are written.
    """
    from fdllm.component import SettingError
    from fdllm.models.convert import convert as write

    settings = decoding_config(None, source, overrides)
    written = {"model.dtype", "model.family", *(f"model.{key}" for key in _conventions())}
    for key in (each.partition("=")[0].strip() for each in overrides or ()):
        if key not in written:
            raise SettingError(f"{key}: is not written into a checkpoint; --set takes {', '.join(sorted(written))}")
    model = write(source, target, **settings.model.model_dump(exclude_none=True, exclude={"path", "device", "tp"}))
    size = sum(weight.nbytes for weight in model.module.parameters())
    typer.echo(f"{target}: {size / 1e6:.1f} MB of weights", err=True)


def _conventions() -> list[str]:
    from fdllm.models.spec import Spec

    return list(Spec.model_fields)
