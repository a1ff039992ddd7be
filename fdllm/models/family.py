"""What a family of checkpoints is: a stock backbone, how its config and keys are named, its conventions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdllm.models.denoiser import Denoiser

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """One row of the table of families, found by `architectures[0]` of a checkpoint's config.json.

    Attributes:
        about: the models it is for, as their authors call them.
        backbone: class of transformers that computes it, by name, or a function that gives the class.
        settings: config.json to the keyword arguments of the backbone's config class. It takes
            only what it knows and refuses what the backbone cannot do.
        spec: config.json to fields of `Spec`; None for one the checkpoint does not say. The loader
            adds to what it is given: `mask_token_id` of the tokenizer where config.json has none,
            and `_name_or_path`, the name of the repository or folder, without what is above it.
        keys: ordered regex renames from the published weight names to the backbone's.
        tokenizer: class of transformers that reads the tokenizer files.
        ends: special tokens that end an answer, besides what config, generation config and
            tokenizer call eos.
        defaults: settings of `fdllm.compile` that its authors recommend (cache, policy, temperature,
            block_length), or a function that reads them from generation_config.json.
        denoiser: class that calls the backbone; None for `BackboneDenoiser`.
        is_causal: False for a backbone that must not mask later slots; None where its layers say that themselves.
        fused: some published weights must be split first, so processes cannot read their shares.

    """

    about: str
    backbone: str | Callable[[], Any]
    settings: Callable[[Config], dict[str, Any]]
    spec: Callable[[Config], dict[str, Any]]
    keys: Mapping[str, str] = field(default_factory=dict)
    tokenizer: str = "AutoTokenizer"
    ends: tuple[str, ...] = ()
    defaults: Mapping[str, Any] | Callable[[Config], Mapping[str, Any]] = field(default_factory=dict)
    denoiser: "Callable[..., Denoiser] | None" = None
    is_causal: bool | None = False
    fused: bool = False


class CheckpointError(ValueError):
    """A checkpoint cannot be loaded; the message says which part of it and why."""


def refuse(config: Config, wanted: Mapping[str, Any]) -> None:
    """Refuse a config whose keys differ from what the backbone computes; an absent or null key passes.

    Raises:
        CheckpointError: names each key, its value and the value that would work.

    """
    wrong = [f"{k} = {config[k]!r} (only {v!r} is supported)" for k, v in wanted.items() if given(config, k, v) != v]
    if wrong:
        raise CheckpointError(f"config.json: {'; '.join(wrong)}")


def required(config: Config, key: str) -> Any:
    """Give a key of the config, or say that it is missing."""
    if config.get(key) is None:
        raise CheckpointError(f"config.json: {key!r} is missing")
    return config[key]


def count(config: Config, key: str, default: int | None = None) -> int:
    """Give a size of the config, a whole number of at least 1; the default, if any, where it is absent or null."""
    found = required({key: given(config, key, default)}, key)
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise CheckpointError(f"config.json: {key} = {found!r} is no whole number of at least 1")
    return found


def number(config: Config, key: str, default: float | None = None, *, above: float | None = None) -> float:
    """Give a number of the config, which files write as an integer where it is whole; the default as in `count`.

    Args:
        config: config.json.
        key: the key of it.
        default: what it is where it is absent or null.
        above: what it must be larger than.

    Raises:
        CheckpointError: it is missing, no number, or not above.

    """
    found = required({key: given(config, key, default)}, key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise CheckpointError(f"config.json: {key} = {found!r} is no number")
    if above is not None and not found > above:
        raise CheckpointError(f"config.json: {key} = {found!r} is not above {above:g}")
    return float(found)


def at_most(config: Config, key: str, bound: str) -> None:
    """Refuse a size that is larger than another.

    Raises:
        CheckpointError: names both keys and their values.

    """
    if count(config, key) > count(config, bound):
        raise CheckpointError(f"config.json: {key} = {config[key]} is more than {bound} = {config[bound]}")


def given(config: Config, key: str, default: Any) -> Any:
    """Give a key of the config, or the default where it is absent or null."""
    return default if config.get(key) is None else config[key]


def table(config: Config, key: str, file: str = "config.json") -> Config:
    """Give a table of the config, empty where it is absent or null; `file`: what the config was read from."""
    found: Config = given(config, key, {})
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{file}: {key} = {found!r} is no table of keys")
    return found


def padding(config: Config, rows: int) -> int | None:
    """Give the id that pads, for an embedding of so many rows, or None."""
    found = config.get("pad_token_id")
    if found is not None and (isinstance(found, bool) or not isinstance(found, int) or not -rows <= found < rows):
        raise CheckpointError(f"config.json: pad_token_id = {found!r} is no id below {rows}")
    return found
