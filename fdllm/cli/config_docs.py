"""Write `docs/config.md` from the components: `python -m fdllm.cli.config_docs > docs/config.md`."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from fdllm import registry
from fdllm.config import PARTS, GenerateTable, ModelTable

HEAD = """# The config file

<!-- written by `make docs` from the components; do not edit -->

A run as tables, in TOML, YAML or JSON. Every key has a default, so an empty file is a run of the built-in model.
An unknown key is an error. On the command line `--set table.key=value` changes one key, and
`--set policy=top-k` names another component and drops the keys of the one before.

```toml
{example}```
"""

EXAMPLE = """[model]
path = "GSAI-ML/LLaDA-8B-Instruct"
dtype = "bfloat16"

[generate]
max_new_tokens = 256
block_length = 32

[cache]
name = "dual"

[policy]
name = "threshold"
threshold = 0.9
"""

UNSET = {
    "schedule": "`blocks` unless given",
    "cache": "`none` in a table that does not say it; without a table, the one recommended for the model, else `none`",
    "policy": "`threshold` in a table that does not say it; without a table, the one recommended for the model, else "
    "`threshold`",
    "temperature": "no schedule unless given: `generate.temperature` holds at every step",
    "attention": "the model's own unless given",
}

BOUNDS = {
    "minimum": "{} or more",
    "exclusiveMinimum": "more than {}",
    "maximum": "{} or less",
    "exclusiveMaximum": "less than {}",
    "minLength": "not empty",
}


def config_markdown() -> str:
    """Give the whole page: the fixed tables, then every component that fdllm itself registers."""
    parts = [HEAD.format(example=EXAMPLE)]
    for name, fixed in (("model", ModelTable), ("generate", GenerateTable)):
        parts += [f"## [{name}]\n\n{summary(fixed)}\n", keys(fixed)]
    for name, part in PARTS.items():
        chosen = UNSET[name]
        parts.append(f"## [{name}]\n\n`name` is {chosen}. A package of your own may add names.\n")
        for member, kind in own(part.group):
            parts += [f'### {name}.name = "{member}"\n\n{summary(kind)}\n', keys(kind)]
    return "\n".join(parts)


def own(group: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Give the components of a group that fdllm itself registers, by name."""
    for name, entry in sorted(registry.names(group).items()):
        if entry.distro is not None and entry.distro.name == "fdllm":
            yield name, registry.load(group, name)


def summary(kind: type[BaseModel]) -> str:
    """Give what a component says of itself."""
    return (inspect.getdoc(kind) or "").replace("\n\n", "\n").strip()


def keys(kind: type[BaseModel]) -> str:
    """Give the table of a component's keys."""
    whole = kind.model_json_schema()
    properties = whole["properties"]
    if not properties:
        return "No keys.\n"
    rows = ["| key | type | default | bounds | meaning |", "|---|---|---|---|---|"]
    for key, schema in properties.items():
        (shape,) = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
        default = _default(schema, key in whole.get("required", ()))
        cells = (f"`{key}`", _type(shape), default, _bounds(shape), schema["description"])
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _type(shape: dict[str, Any]) -> str:
    if "enum" in shape:
        return ", ".join(f"`{json.dumps(value)}`" for value in shape["enum"])
    if shape.get("type") == "array":
        return f"list of {shape['items']['type']}"
    return str(shape.get("type", "name or table"))


def _default(schema: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    # a component inside has no default that can be written down
    return "unset" if schema.get("default") is None else f"`{json.dumps(schema['default'])}`"


def _bounds(shape: dict[str, Any]) -> str:
    return ", ".join(text.format(shape[key]) for key, text in BOUNDS.items() if key in shape)


if __name__ == "__main__":
    print(config_markdown(), end="")
