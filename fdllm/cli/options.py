"""Options that several commands share, and the decoding config they add up to."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fdllm.config import DecodingConfig

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings: a .toml, .yaml or .json.")]
ModelPath = Annotated[
    str | None, typer.Option("--model", metavar="PATH", help="A hub id, a folder or a built-in name. [default: tiny]")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Change one setting; may be repeated: policy.threshold=0.8"),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of all noise, generate.seed. [default: 0]")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def decoding_config(
    file: Path | None, model: str | None, overrides: list[str] | None, *, seed: int | None = None
) -> "DecodingConfig":
    """Read the file, if any, then apply `--model`, `--seed` and every `--set`, in this order.

    Raises:
        ValueError: a setting is wrong; names its key.

    """
    from fdllm.config import DecodingConfig

    config = DecodingConfig() if file is None else DecodingConfig.from_file(file)
    path = [] if model is None else [named("model.path", model)]
    seeded = [] if seed is None else [f"generate.seed={seed}"]
    return config.with_overrides([*path, *seeded, *(overrides or [])])


def named(key: str, text: str) -> str:
    """Write `key=text`, quoted, so that a folder called 7 stays a name."""
    return f"{key}={json.dumps(text, ensure_ascii=False)}"
