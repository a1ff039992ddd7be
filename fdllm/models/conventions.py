"""The `Spec` of a checkpoint: family, config.json, generation config and tokenizer put together, then overridden."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fdllm.component import SettingError, explain
from fdllm.models.family import CheckpointError, Config, Family, given, table
from fdllm.models.native import native
from fdllm.models.spec import Spec


def conventions(
    family: Family, config: Config, generation: Config, tokenizer: Any, path: str, overrides: Mapping[str, Any]
) -> Spec:
    """Put the spec of a checkpoint together; a native one says it whole.

    Args:
        family: gives the fields, from config.json.
        config: config.json.
        generation: generation_config.json, empty where there is none.
        tokenizer: the tokenizer, or None.
        path: what was given to `load`.
        overrides: fields that stand above what the checkpoint says.

    Raises:
        SettingError: a field that the checkpoint does not say and nobody gave, or a wrong override.

    """
    if (written := native(config)) is not None:
        return _spec({**written.spec.model_dump(), **overrides})
    mask_id = given(config, "mask_token_id", getattr(tokenizer, "mask_token_id", None))
    fields = family.spec({**config, "mask_token_id": mask_id, "_name_or_path": published_name(path)})
    num_ids = fields["vocab_size"]
    if tokenizer is not None:
        fields["vocab_size"] = min(num_ids, len(tokenizer))
    fields |= overrides
    _all_said(fields, path)
    if "eos_ids" not in fields:
        ends = dict.fromkeys(_ends(family, config, generation, tokenizer, num_ids))
        # an id that the model scores and its tokenizer lacks is never produced, so it ends nothing
        fields["eos_ids"] = tuple(i for i in ends if i < fields["vocab_size"])
    spec = _spec(fields)
    if (spec.mask_id or 0) >= num_ids:
        raise SettingError(
            f"model.mask_id: {spec.mask_id} is not among the {num_ids} ids of {path!r}; {_give('mask_id')}"
        )
    return spec


def published_name(path: str) -> str:
    """Give the name of a repository or folder without what is above it, which says nothing of the model.

    In the cache of the hub a snapshot lies at `models--org--name/snapshots/HASH`, and is called `name`.
    """
    found = Path(path).absolute()
    above = found.parent.parent.name
    if found.parent.name == "snapshots" and above.startswith("models--"):
        return above.rpartition("--")[2]
    return found.name


def _spec(fields: Mapping[str, Any]) -> Spec:
    try:
        return Spec(**fields)
    except ValidationError as error:
        raise SettingError(explain(error, "model", Spec)) from None


def _all_said(fields: Mapping[str, Any], path: str) -> None:
    for key, value in fields.items():
        known = Spec.model_fields[key]
        unmasked = key == "mask_id" and fields.get("noise") == "uniform"
        if value is None and not unmasked and (key == "mask_id" or known.default is not None):
            raise SettingError(f"model.{key}: {path!r} does not say it ({known.description}); {_give(key)}")


def _give(key: str) -> str:
    return f"give it, as fdllm.load(..., {key}=...) or --set model.{key}=..."


def _ends(family: Family, config: Config, generation: Config, tokenizer: Any, num_ids: int) -> Iterator[int]:
    """Go through every id that somebody says ends a text; the first one fills up."""
    yield from _eos(config, "config.json", num_ids)
    yield from _eos(table(config, "text_config"), "config.json: text_config", num_ids)
    yield from _eos(generation, "generation_config.json", num_ids)
    if (own := getattr(tokenizer, "eos_token_id", None)) is not None:
        yield own
    added = {} if tokenizer is None else tokenizer.get_added_vocab()
    yield from (added[text] for text in family.ends if text in added)


def _eos(config: Config, where: str, num_ids: int) -> list[int]:
    """Give the ids under `eos_token_id`, which holds one, several or none."""
    found = config.get("eos_token_id")
    listed = found if isinstance(found, list) else [] if found is None else [found]
    if wrong := [i for i in listed if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < num_ids]:
        raise CheckpointError(
            f"{where}: eos_token_id has {wrong[0]!r}, which is none of the model's {num_ids} ids; correct it, or "
            f"{_give('eos_ids')}"
        )
    return listed
