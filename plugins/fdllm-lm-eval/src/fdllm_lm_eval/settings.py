"""`--model_args` as a decoding config: the keys of `fdllm generate --set`, short where one key is meant."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from fdllm import registry
from fdllm.component import SettingError, Settings, explain
from fdllm.config import PARTS, DecodingConfig, GenerateTable, ModelTable

# [generate] has a key `temperature`, so a temperature schedule is named in full, as temperature.name
NAMES = ("schedule", "cache", "policy", "attention")


class Options(Settings):
    """What the harness's model has beside its decoder."""

    add_bos: bool = Field(False, description="put the tokenizer's begin of text before every prompt without one")
    mc_samples: int = Field(128, ge=1, description="masks an answer is scored under")
    mc_batch: int = Field(16, ge=1, description="masks scored in one forward; it changes the speed and not the result")


def read(given: Mapping[str, Any]) -> tuple[DecodingConfig, Options]:
    """Read model arguments.

    Args:
        given: `config`, a file; a key of `Options`; the name of a part, such as `cache=dual`;
            `table.key`; or `key` alone, which is of the first table that has it: [generate], [model],
            [policy], [cache]. Values as the harness parsed them.

    Raises:
        ValueError: a key that no table has, a wrong value, a broken file; names the key.

    """
    own = {key: value for key, value in given.items() if key in Options.model_fields}
    rest = {key: value for key, value in given.items() if key not in own and key != "config"}
    config = DecodingConfig.from_file(str(given["config"])) if "config" in given else DecodingConfig()
    # names first, for they say which keys their tables have
    named = {key for key in rest if key in NAMES or key.endswith(".name")}
    config = config.with_overrides([_override(key, _name(rest[key])) for key in sorted(named)])
    tables = _tables(config)
    config = config.with_overrides([_override(_full(key, tables), rest[key]) for key in rest if key not in named])
    try:
        return config, Options(**own)
    except ValidationError as error:
        raise SettingError(explain(error, "model_args", Options)) from None


def _name(given: Any) -> Any:
    """Undo what the harness makes of `cache=none`."""
    return "none" if given is None else given


def _override(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value)}"


def _tables(config: DecodingConfig) -> dict[str, type[BaseModel]]:
    """List the tables a key without one is looked for in."""
    parts = {name: getattr(config, name) for name in ("policy", "cache")}
    kinds = {
        name: registry.load(PARTS[name].group, PARTS[name].default) if part is None else type(part)
        for name, part in parts.items()
    }
    return {"generate": GenerateTable, "model": ModelTable, **kinds}


def _full(key: str, tables: Mapping[str, type[BaseModel]]) -> str:
    if "." in key:
        return key
    found = next((name for name, table in tables.items() if key in table.model_fields), None)
    if found is None:
        known = {
            "config",
            *NAMES,
            *Options.model_fields,
            *(field for t in tables.values() for field in t.model_fields),
        }
        close = get_close_matches(key, sorted(known), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(known))}, and table.key"
        raise SettingError(f"model_args.{key}: no such key; {hint}")
    return f"{found}.{key}"
