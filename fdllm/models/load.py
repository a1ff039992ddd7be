"""Load a checkpoint: config to family, family to a stock backbone, every key accounted for.

No remote code, safetensors only. Whatever does not fit is an error, never a warning.
"""

import json
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PreTrainedConfig
from transformers.utils import logging
from transformers.utils.hub import cached_file

from fdllm import registry
from fdllm.attention.base import AttentionBackend
from fdllm.component import SettingError, build
from fdllm.models.backbone import BackboneDenoiser
from fdllm.models.conventions import conventions
from fdllm.models.denoiser import Denoiser
from fdllm.models.family import CheckpointError, Config, Family
from fdllm.models.native import aligned, as_written, native
from fdllm.models.parallel import check_processes, shares
from fdllm.models.spec import Spec

BUILT_IN = {"tiny": Path(__file__).parent.parent / "tiny" / "weights"}
_WANTED = f"give a folder, a hub id or one of {', '.join(BUILT_IN)}"


def load(
    path: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    tp: int = 1,
    family: str | Family | None = None,
    **overrides: Any,
) -> Denoiser:
    """Load a model by hub id, folder or built-in name.

    Args:
        path: such as `GSAI-ML/LLaDA-8B-Instruct`, `./checkpoint` or `tiny`.
        dtype: `float32`, `bfloat16` ..., or `auto`: what config.json says, else float32.
        device: `cpu`, `cuda`, `cuda:1` ..., or `auto`: cuda where there is one.
        tp: processes that share the model, started by `torchrun`; all must load and decode the same.
        family: how to read it, registered or made on the spot; unless given, the one registered
            for `architectures[0]` of its config.json.
        overrides: fields of `Spec` (mask_id, eos_ids, block_length ...), and `attention`, the
            backend a decoder uses unless told otherwise.

    Raises:
        CheckpointError: no such checkpoint, an unknown family, a config the backbone cannot
            compute, keys missing, left over or of another shape, or a model that cannot be shared.
        SettingError: an override, dtype, device or tp that is wrong, or an override that is
            needed, because the checkpoint does not say it.

    """
    attention: AttentionBackend = build(
        "attention", overrides.pop("attention", "sdpa"), AttentionBackend, "model.attention"
    )
    check_processes(tp, device)
    target = _device(device) if tp == 1 else None
    source = _source(path)
    with quiet():
        config = read_config(path)
        found = family if isinstance(family, Family) else _family(architecture(family, config, path), path)
        chosen = as_written(found, config)
        tokenizer = _tokenizer(source, path, chosen)
        generation = generation_config(path)
        spec = conventions(chosen, config, generation, tokenizer, path, _unknown_refused(overrides))
        module = _module(source, path, chosen, config, _dtype(dtype, config), tp)
    # a share is read to where it belongs
    placed = module if target is None else aligned(module.to(target))
    recommended = _recommended(chosen, generation, spec)
    return (chosen.denoiser or BackboneDenoiser)(
        placed, spec, name=path, tokenizer=tokenizer, attention=attention, defaults=recommended
    )


def _source(path: str) -> str:
    return str(BUILT_IN.get(path, path))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' advice out of the way (its errors are ours), and its progress bar where nobody watches."""
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if shown and not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        # published configs are of transformers 4, whose names it warns of
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            # of initial values, which the checkpoint replaces
            warnings.filterwarnings("ignore", message="DTensor random operators")
            yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def read_config(path: str) -> Config:
    """Read config.json.

    Raises:
        CheckpointError: no such checkpoint, or it has none.

    """
    source = _source(path)
    if Path(source).exists() and not (Path(source) / "config.json").is_file():
        raise CheckpointError(f"model.path: {path!r} has no config.json; give the folder of a checkpoint")
    try:
        config: dict[str, Any] = PreTrainedConfig.get_config_dict(source)[0]
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise CheckpointError(f"model.path: cannot read a config from {path!r}: {_WANTED} ({why})") from error
    if not config:
        raise CheckpointError(f"model.path: {path!r} has no config.json; {_WANTED}")
    return config


def architecture(given: str | None, config: Config, path: str) -> str:
    """Give the name its family is registered under: what is given, what was converted, or `architectures[0]`."""
    written = native(config)
    name = given or (written.architecture if written else next(iter(config.get("architectures") or []), None))
    if name is None:
        raise CheckpointError(f"model.path: config.json of {path!r} names no architectures, so its family is unknown")
    return str(name)


def _family(name: str, path: str) -> Family:
    try:
        family = registry.load("models", name)
    except registry.UnknownNameError as error:
        raise CheckpointError(f"model.path: {path!r}: {error}") from None
    if not isinstance(family, Family):
        raise registry.PluginError(f"{registry.owner(registry.names('models')[name])} is not a Family")
    return family


def _recommended(family: Family, generation: Config, spec: Spec) -> dict[str, Any]:
    """Take what its authors recommend; where later blocks change nothing, the cache that is exact besides."""
    said = family.defaults(generation) if callable(family.defaults) else family.defaults
    return {**({} if spec.pattern == "full" else {"cache": "block-causal"}), **said}


def _unknown_refused(overrides: dict[str, Any]) -> dict[str, Any]:
    for key in overrides:
        if key not in Spec.model_fields:
            known = ", ".join(["family", "attention", *Spec.model_fields])
            raise SettingError(f"model.{key}: no such key; known keys: path, dtype, device, tp, {known}")
    return overrides


def _dtype(dtype: str, config: Config) -> torch.dtype:
    name = (config.get("dtype") or config.get("torch_dtype") or "float32") if dtype == "auto" else dtype
    found = name if isinstance(name, torch.dtype) else getattr(torch, str(name), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise SettingError(f"model.dtype: {dtype!r} is no floating point dtype; give float32, bfloat16 or float16")
    return found


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise SettingError(f"model.device: cannot use {device!r}: {str(error).splitlines()[0]}") from error


def _module(source: str, path: str, family: Family, config: Config, dtype: torch.dtype, tp: int) -> Any:
    backbone = getattr(transformers, family.backbone) if isinstance(family.backbone, str) else family.backbone()
    try:
        settings = backbone.config_class(**family.settings(config), is_causal=family.is_causal, use_cache=False)
    except StrictDataclassError as error:
        cause = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"config.json: {re.sub('^[A-Za-z]+Error: ', '', cause)}") from error
    distributed = shares(tp, family, backbone, settings, path)
    try:
        module, info = backbone.from_pretrained(
            source,
            config=settings,
            key_mapping=dict(family.keys),
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **distributed,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        # transformers points at a report, which is kept out of the way
        shown = "they do not split or merge as its config says" if "CONVERSION" in str(error) else str(error)
        raise CheckpointError(f"model.path: cannot load weights from {path!r}: {shown.splitlines()[0]}") from error
    kinds = {"missing": "missing_keys", "left over": "unexpected_keys", "of another shape": "mismatched_keys"}
    wrong = [f"{kind}: {_first(info[key])}" for kind, key in kinds.items() if info.get(key)]
    if wrong:
        raise CheckpointError(f"model.path: the weights of {path!r} do not fit its config; {'; '.join(wrong)}")
    return module


def _first(keys: Any) -> str:
    shown = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _tokenizer(source: str, path: str, family: Family) -> Any:
    """Read the tokenizer, or None where the checkpoint has none."""
    names = ("tokenizer.json", "tokenizer_config.json", "vocab.json")
    if not any(_has(source, name) for name in names):
        return None
    try:
        return getattr(transformers, family.tokenizer).from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"model.path: cannot read the tokenizer of {path!r}: {str(error).splitlines()[0]}"
        ) from error


def _has(source: str, name: str) -> bool:
    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    return found is not None


def generation_config(path: str) -> Config:
    """Read generation_config.json; empty where there is none."""
    found = cached_file(_source(path), "generation_config.json", _raise_exceptions_for_missing_entries=False)
    return {} if found is None else json.loads(Path(found).read_text())
