"""Find an implementation by name. Built-ins and plugins come the same way: entry points.

A package offers a component in its `pyproject.toml`:

    [project.entry-points."fdllm.policies"]
    entropy-bound = "fdllm_entropy_bound:EntropyBound"

Names are read from installed metadata; nothing is imported until it is asked for.
"""

from difflib import get_close_matches
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from entrypoints import EntryPoint, get_group_all

GROUPS = ("caches", "policies", "schedules", "temperatures", "signals", "attention", "models", "tasks", "scorers")
SINGULAR = {
    "caches": "cache",
    "policies": "policy",
    "schedules": "schedule",
    "temperatures": "temperature schedule",
    "signals": "signal",
    "attention": "attention backend",
    "models": "model family",
    "tasks": "task",
    "scorers": "scorer",
}


class UnknownNameError(ValueError):
    """No installed package offers this name."""


class PluginError(ValueError):
    """A package offers something that cannot be used; the message says whose it is."""


@cache
def names(group: str) -> dict[str, EntryPoint]:
    """List what is installed in a group, by name, without importing any of it.

    Raises:
        PluginError: two packages offer the same name.

    """
    found: dict[str, EntryPoint] = {}
    for entry in get_group_all(f"fdllm.{group}"):
        other = found.get(entry.name)
        if other is not None and (other.module_name, other.object_name) != (entry.module_name, entry.object_name):
            raise PluginError(
                f"two packages offer {SINGULAR[group]} {entry.name!r}: {owner(other)} and {owner(entry)}; "
                "uninstall one of them"
            )
        found[entry.name] = entry
    return found


def owner(entry: EntryPoint) -> str:
    """Say which distribution an entry comes from, as `package 1.0 (module:name)`."""
    return f"{' '.join(package(entry))} ({entry.module_name}:{entry.object_name})".lstrip()


def package(entry: EntryPoint) -> tuple[str, str]:
    """Give name and version of the distribution an entry comes from; empty where they are unknown."""
    if entry.distro is None:
        return "", ""
    name: str = entry.distro.name
    try:
        # a checkout's own metadata, found first in its folder, has no version in its name
        return name, entry.distro.version or version(name)
    except PackageNotFoundError:
        return name, ""


@cache
def load(group: str, name: str) -> Any:
    """Import what is registered as `name` in a group.

    Raises:
        UnknownNameError: nothing is registered under the name.
        PluginError: its module cannot be imported or lacks the object.

    """
    installed = names(group)
    if name not in installed:
        close = get_close_matches(name, installed, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise UnknownNameError(
            f"no {SINGULAR[group]} named {name!r}{hint} Installed: {', '.join(sorted(installed)) or 'none'}. "
            "A package installed before it gained a name must be installed again."
        )
    try:
        return installed[name].load()
    # a module that ends the process on import is broken as well
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{SINGULAR[group]} {name!r} of {owner(installed[name])} cannot be imported: "
            f"{type(error).__name__}: {error}; repair or uninstall that package"
        ) from error


def discover() -> dict[str, dict[str, str]]:
    """Say what is installed: group to name to the distribution that offers it. Imports nothing."""
    return {group: {name: owner(entry) for name, entry in sorted(names(group).items())} for group in GROUPS}
