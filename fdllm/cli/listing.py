"""`fdllm list`: what is installed, by group. Names come from metadata; a plain list imports no component."""

import inspect
import json
from typing import Annotated, Any

import typer

from fdllm import registry
from fdllm.cli.options import Json
from fdllm.models.family import Family


def list_(
    group: Annotated[str | None, typer.Argument(help=f"One of {', '.join(registry.GROUPS)}. [default: all]")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Import each one and say what it does.")] = False,
    as_json: Json = False,
) -> None:
    """List the components that are installed, and the packages they come from."""
    if group is not None and group not in registry.GROUPS:
        raise registry.UnknownNameError(f"no group named {group!r}; groups: {', '.join(registry.GROUPS)}")
    found = [row for each in registry.GROUPS if group in (None, each) for row in rows(each, describe=verbose)]
    if as_json:
        print(json.dumps(found, indent=1))
        return
    width = max((len(row["name"]) + 2 for row in found), default=0)
    for row in found:
        print(f"{row['group']:11}{row['name']:{width}}{row['package']} {row['version']}  {row['object']}")
        if verbose:
            print(f"{'':11}{row['about']}")


def rows(group: str, *, describe: bool = False) -> list[dict[str, str]]:
    """One row a name: group, name, package, version, object, and what it does when asked.

    Raises:
        registry.PluginError: two packages offer one name, or one cannot be imported to describe it.

    """
    return [
        {
            "group": group,
            "name": name,
            **dict(zip(("package", "version"), registry.package(entry), strict=True)),
            "object": f"{entry.module_name}:{entry.object_name}",
            **({"about": about(registry.load(group, name))} if describe else {}),
        }
        for name, entry in sorted(registry.names(group).items())
    ]


def about(component: Any) -> str:
    """First line of its docstring and, for a component, its keys; for a family, the models it is for."""
    if isinstance(component, Family):
        return component.about
    summary = (inspect.getdoc(component) or "").partition("\n")[0]
    keys = ", ".join(getattr(component, "model_fields", {}))
    return f"{summary} Keys: {keys}." if keys else summary
