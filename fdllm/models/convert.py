"""Write any checkpoint as a native one: under the names of its backbone, in its dtype, with its conventions.

transformers alone loads the result too, and processes can share it (`fdllm.models.parallel`).
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError

from fdllm.component import SettingError
from fdllm.models.denoiser import Denoiser
from fdllm.models.family import Config
from fdllm.models.files import architecture, generation_config, read_config
from fdllm.models.load import load, quiet
from fdllm.models.native import KEY, Native


def convert(
    source: str, target: str | Path, *, dtype: str = "auto", family: str | None = None, **overrides: Any
) -> Denoiser:
    """Load a checkpoint and write it as a native one, whole or not at all.

    Args:
        source: a hub id, a folder or a built-in name.
        target: the folder to write, absent or empty. While it is written it is called `TARGET.part`.
        dtype: dtype of the weights; auto: as the checkpoint says.
        family: how to read it, a registered name; unless given, what its config.json says.
        overrides: fields of `Spec`, which are written in place of what the checkpoint says.

    Returns:
        The model that was written.

    Raises:
        SettingError: `target` is in the way or cannot be written, or an override is wrong.
        CheckpointError: `source` cannot be loaded.

    """
    target = Path(target).absolute()
    part = _begin(target)
    try:
        model = load(source, dtype=dtype, device="cpu", family=family, **overrides)
        said = Native(architecture=architecture(family, read_config(source), source), spec=model.spec)
        with quiet(), _writing(target):
            _write(model, said, generation_config(source), part)
            part.replace(target)
    except BaseException:
        shutil.rmtree(part)
        raise
    return model


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingError(f"{target}: cannot be written: {why}") from None


def _begin(target: Path) -> Path:
    """Make the folder to write into, beside the target, before anything is read."""
    part = target.with_name(f"{target.name}.part")
    with _writing(target):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise SettingError(f"{target}: there is something of that name; give a folder that is absent or empty")
        try:
            part.mkdir()
        except FileExistsError:
            raise SettingError(f"{part}: another convert writes it, or was killed; wait for it or delete it") from None
    return part


def _write(model: Denoiser, said: Native, generation: Config, folder: Path) -> None:
    module = model.module
    # what is published may not pass transformers' checks of what it writes, so it is copied below
    module.generation_config = transformers.GenerationConfig()
    module.save_pretrained(folder, save_original_format=False)
    config = json.loads((folder / "config.json").read_text())
    # a backbone with a conversion of its own goes by another name
    stock = next(kind.__name__ for kind in type(module).__mro__ if hasattr(transformers, kind.__name__))
    _dump(folder / "config.json", {**config, "architectures": [stock], KEY: said.model_dump(mode="json")})
    _dump(folder / "generation_config.json", generation)
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(folder)


def _dump(path: Path, table: Config) -> None:
    path.write_text(json.dumps(table, indent=1) + "\n")
