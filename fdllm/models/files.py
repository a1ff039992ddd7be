"""Read the files of a checkpoint, from a folder or the hub: config.json, generation_config.json, tokenizer, weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from safetensors import safe_open
from transformers.utils.hub import cached_file

from fdllm.component import SettingError
from fdllm.models.family import CheckpointError, Config, Family, table
from fdllm.models.native import native

BUILT_IN = {"tiny": Path(__file__).parent.parent / "tiny" / "weights"}
# as safetensors names them
_DTYPES = ("F64", "F32", "F16", "BF16")
_WANTED = f"give a folder, a hub id or one of {', '.join(BUILT_IN)}"


def source_of(path: str) -> str:
    """Give the folder or hub id that a path stands for."""
    return str(BUILT_IN.get(path, path))


@contextmanager
def transformers_must(do: str, path: str) -> Iterator[None]:
    """Turn whatever transformers raises over files it does not expect into an error that says which.

    Args:
        do: such as `read the tokenizer of`.
        path: what was given to `load`.

    Raises:
        CheckpointError: with the first line of the cause.

    """
    try:
        yield
    except Exception as error:
        # transformers points at a report, which is kept out of the way
        merging = "CONVERSION" in str(error)
        shown = "they do not split or merge as its config says" if merging else _first_line(error)
        raise CheckpointError(f"model.path: cannot {do} {path!r}: {shown}") from error


def read_config(path: str) -> Config:
    """Read config.json.

    Raises:
        CheckpointError: no such checkpoint, it has no config.json, a broken one, or one of quantized weights.

    """
    source = Path(source_of(path))
    if source.exists() and not (source / "config.json").is_file():
        raise CheckpointError(f"model.path: {path!r} has no config.json; give the folder of a checkpoint")
    found = _find(path, "config.json")
    config = {} if found is None else _object(found, path)
    if not config:
        raise CheckpointError(f"model.path: {path!r} has no config.json, or an empty one; {_WANTED}")
    if config.get("quantization_config") is not None:
        raise CheckpointError(
            f"config.json: quantization_config = {config['quantization_config']!r} (no quantized weights are "
            "supported); give the checkpoint it was made from"
        )
    return config


def generation_config(path: str) -> Config:
    """Read generation_config.json; empty where there is none.

    Raises:
        CheckpointError: it is broken.

    """
    found = _find(path, "generation_config.json")
    return {} if found is None else _object(found, path)


def architecture(given: str | None, config: Config, path: str) -> str:
    """Give the name its family is registered under: what is given, what was converted, or `architectures[0]`.

    Raises:
        SettingError: what is given is no name.
        CheckpointError: nothing says it.

    """
    if given is not None and not isinstance(given, str):
        raise SettingError(f"model.family: wanted a name or a Family, got {given!r}")
    if given is not None or (written := native(config)) is None:
        return given or _architecture(config, path)
    return written.architecture


def _architecture(config: Config, path: str) -> str:
    named = config.get("architectures") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise CheckpointError(f"config.json: architectures = {named!r} is no list of names")
    if not named:
        raise CheckpointError(f"model.path: config.json of {path!r} names no architectures, so its family is unknown")
    return str(named[0])


def read_tokenizer(path: str, family: Family) -> Any:
    """Read the tokenizer, or None where the checkpoint has none.

    Raises:
        CheckpointError: transformers cannot read it.

    """
    if all(_find(path, name) is None for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json")):
        return None
    with transformers_must("read the tokenizer of", path):
        return getattr(transformers, family.tokenizer).from_pretrained(source_of(path), trust_remote_code=False)


def check_weights(path: str) -> None:
    """Check that all weights are numbers as they stand, for transformers would cast a code to one.

    Raises:
        CheckpointError: one is of an integer dtype, or of a floating point dtype of 8 bits.

    """
    for file in _weight_files(path):
        with safe_open(file, framework="pt") as weights:
            for key in sorted(weights.keys()):
                if (dtype := weights.get_slice(key).get_dtype()) not in _DTYPES:
                    raise CheckpointError(
                        f"model.path: {key} of {path!r} has dtype {dtype} (only {', '.join(_DTYPES)} are supported); "
                        "give a checkpoint that is not quantized"
                    )


def _weight_files(path: str) -> list[str]:
    if (whole := _find(path, "model.safetensors")) is not None:
        return [whole]
    index = _find(path, "model.safetensors.index.json")
    parts = set() if index is None else set(table(_object(index, path), "weight_map").values())
    return [found for name in sorted(parts) if (found := _find(path, name)) is not None]


def _find(path: str, name: str) -> str | None:
    """Give where a file of the checkpoint lies on this machine, or None where it has none of that name."""
    try:
        found: str | None = cached_file(source_of(path), name, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError) as error:
        why = _first_line(error)
        raise CheckpointError(f"model.path: cannot find {name} of {path!r}: {_WANTED} ({why})") from error
    return found


def _object(file: str, path: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"model.path: cannot read {Path(file).name} of {path!r}: {_first_line(error)}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{Path(file).name}: wanted an object of keys, got {found!r}")
    return found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
