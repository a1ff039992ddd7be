"""What every component is: a frozen set of settings, found by name, printable as the record of a run."""

from difflib import get_close_matches
from inspect import isabstract
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fdllm import registry


class Settings(BaseModel):
    """Checked keys: of the type written, finite, none that is not known; frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Component(Settings):
    """Settings of one part of a decoder. Fields are the keys of its config table."""

    @classmethod
    def registered_name(cls, group: str) -> str:
        """Look up the name this class is registered under, or its class name when it is not."""
        for name, entry in registry.names(group).items():
            if (entry.module_name, entry.object_name) == (cls.__module__, cls.__qualname__):
                return name
        return cls.__name__

    def with_settings(self, **settings: Any) -> Self:
        """Copy with some settings changed and all of them checked again."""
        return type(self)(**{**{name: getattr(self, name) for name in self.model_fields_set}, **settings})


C = TypeVar("C", bound=Component)


class SettingError(ValueError):
    """A setting is wrong; the message names its key and what would be right."""


def build(group: str, given: Any, base: type[C], where: str) -> C:
    """Make a component from a name, a table with `name`, or a component.

    Args:
        group: entry-point group without its prefix, such as `policies`.
        given: `"threshold"`, `{"name": "threshold", "threshold": 0.9}` or an instance of `base`.
        base: the abstract class the result must extend.
        where: the argument or table, for messages, such as `policy`.

    Raises:
        SettingError: no name, an unknown or wrong key.
        registry.UnknownNameError, registry.PluginError: from the look-up.

    """
    if isinstance(given, base):
        return given
    table = {"name": given} if isinstance(given, str) else given
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise SettingError(
            f"{where}: wanted a name, a table with 'name', or {_a(base)}, got {given!r}; "
            f"installed: {', '.join(sorted(registry.names(group)))}"
        )
    settings = {key: value for key, value in table.items() if key != "name"}
    kind = _kind(group, table["name"], base, where)
    try:
        return kind(**settings)
    except ValidationError as error:
        raise SettingError(explain(error, where, kind)) from None


def _kind(group: str, name: str, base: type[C], where: str) -> type[C]:
    """Load a class that can be made into a component of its kind."""
    kind = registry.load(group, name)
    owner = f"{where} {name!r} of {registry.owner(registry.names(group)[name])}"
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise registry.PluginError(f"{owner} is not {_a(base)}")
    if isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise registry.PluginError(f"{owner} does not define {missing}, which {_a(base)} must")
    return kind


def _a(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"


def explain(error: ValidationError, where: str, kind: type[BaseModel]) -> str:
    """Write pydantic's findings one a line: `policy.treshold: no such key; did you mean ...`.

    Args:
        error: what building a `kind` raised.
        where: the table the keys stand in, such as `policy`, or "" at the top of a file.
        kind: the model, for the names it knows.

    """
    return "\n".join(_finding(dict(found), where, kind) for found in error.errors(include_url=False))


# pydantic's words for what a file calls a table or a list
_WORDS = {"model_type": "wanted a table", "tuple_type": "wanted a list"}


def _finding(found: dict[str, Any], where: str, kind: type[BaseModel]) -> str:
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, SettingError):
        # a component inside the table: its message carries its own key
        return str(cause)
    key = ".".join(str(part) for part in (where, *found["loc"]) if part != "")
    if found["type"] == "extra_forbidden":
        known = sorted(_table(kind, found["loc"][:-1]).model_fields)
        close = get_close_matches(str(found["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known) or 'none'}"
        return f"{key}: no such key; {hint}"
    if found["type"] == "missing":
        return f"{key}: required, add it"
    if cause is not None:
        return f"{key}: {cause}" if key else str(cause)
    return f"{key}: {_WORDS.get(found['type'], found['msg'])}, got {found['input']!r}"


def _table(kind: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel]:
    """Follow nested tables to the one a key was found in."""
    for key in path:
        inner = kind.model_fields[str(key)].annotation if key in kind.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        kind = inner
    return kind
