"""Load a checkpoint: config to family, family to a stock backbone, every key accounted for.

No remote code, safetensors only. Whatever does not fit is an error, never a warning.
"""

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers.utils import logging

from fdllm import registry
from fdllm.attention.base import AttentionBackend
from fdllm.component import SettingError, build
from fdllm.models.backbone import BackboneDenoiser
from fdllm.models.conventions import conventions
from fdllm.models.denoiser import Denoiser
from fdllm.models.family import CheckpointError, Config, Family
from fdllm.models.files import (
    BUILT_IN,
    architecture,
    check_weights,
    generation_config,
    read_config,
    read_tokenizer,
    source_of,
    transformers_must,
)
from fdllm.models.native import aligned, as_written
from fdllm.models.parallel import check_processes, shares
from fdllm.models.spec import Spec

# others keep too little of a weight, or are no numbers with a fraction
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


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
    with quiet(progress=path not in BUILT_IN):
        config = read_config(path)
        told = f"model.path: {path!r}" if family is None else "model.family"
        found = family if isinstance(family, Family) else _family(architecture(family, config, path), told)
        chosen = as_written(found, config)
        tokenizer = read_tokenizer(path, chosen)
        generation = generation_config(path)
        spec = conventions(chosen, config, generation, tokenizer, path, _unknown_refused(overrides))
        module = _module(path, chosen, config, _dtype(dtype, config), tp)
    # a share is read to where it belongs
    placed = module if target is None else aligned(module.to(target))
    recommended = _recommended(chosen, generation, spec)
    return (chosen.denoiser or BackboneDenoiser)(
        placed, spec, name=path, tokenizer=tokenizer, attention=attention, defaults=recommended
    )


@contextmanager
def quiet(progress: bool = True) -> Iterator[None]:
    """Keep transformers' advice out of the way (its errors are ours), and its progress bars.

    Args:
        progress: leave the bars where somebody watches.

    """
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if shown and not (progress and sys.stderr.isatty()):
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


def _family(name: str, told: str) -> Family:
    try:
        family = registry.load("models", name)
    except registry.UnknownNameError as error:
        raise CheckpointError(f"{told}: {error}") from None
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
    if found not in _DTYPES:
        said = f"config.json has {name!r}, which" if dtype == "auto" else f"{name!r}"
        raise SettingError(
            f"model.dtype: {said} is no floating point dtype of 16 bits or more; give float32, bfloat16 or float16"
        )
    return found


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise SettingError(f"model.device: cannot use {device!r}: {str(error).splitlines()[0]}") from error


def _module(path: str, family: Family, config: Config, dtype: torch.dtype, tp: int) -> Any:
    backbone = getattr(transformers, family.backbone) if isinstance(family.backbone, str) else family.backbone()
    try:
        settings = backbone.config_class(**family.settings(config), is_causal=family.is_causal, use_cache=False)
    except StrictDataclassError as error:
        cause = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"config.json: {re.sub('^[A-Za-z]+Error: ', '', cause)}") from error
    distributed = shares(tp, family, backbone, settings, path)
    with transformers_must("load weights from", path):
        module, info = backbone.from_pretrained(
            source_of(path),
            config=settings,
            key_mapping=dict(family.keys),
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **distributed,
        )
    kinds = {"missing": "missing_keys", "left over": "unexpected_keys", "of another shape": "mismatched_keys"}
    wrong = [f"{kind}: {_first(info[key])}" for kind, key in kinds.items() if info.get(key)]
    if wrong:
        raise CheckpointError(f"model.path: the weights of {path!r} do not fit its config; {'; '.join(wrong)}")
    check_weights(path)
    return module


def _first(keys: Any) -> str:
    shown = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
