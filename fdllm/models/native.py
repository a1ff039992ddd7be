"""A native checkpoint, as `fdllm convert` writes it: under the names of its backbone, with all that fdllm knows of it.

Its config.json is the backbone's own. Under the key `fdllm` it names the family and holds the spec.
"""

from dataclasses import replace
from typing import Any

from pydantic import Field, ValidationError

from fdllm.component import Settings, explain
from fdllm.models.family import CheckpointError, Config, Family
from fdllm.models.spec import Spec

KEY = "fdllm"

# what the backbone's class says of itself, or the loader says for every checkpoint
_SAID_ELSEWHERE = {KEY, "architectures", "dtype", "is_causal", "model_type", "transformers_version", "use_cache"}


class Native(Settings):
    """What a native checkpoint says under the key `fdllm`."""

    architecture: str = Field(min_length=1, description="`architectures[0]` of what was converted")
    spec: Spec = Field(description="conventions of the model")


def native(config: Config) -> Native | None:
    """Read what a config.json says under the key `fdllm`; None for a published checkpoint.

    Raises:
        CheckpointError: it is there, and broken; names its key.

    """
    if KEY not in config:
        return None
    try:
        return Native.model_validate(config[KEY])
    except ValidationError as error:
        raise CheckpointError(f"config.json: {explain(error, KEY, Native)}; convert the checkpoint again") from None


def as_written(family: Family, config: Config) -> Family:
    """See a family as this checkpoint is written: in a native one there is nothing to rename or to split."""
    return family if native(config) is None else replace(family, settings=_settings, keys={}, fused=False)


def aligned(module: Any) -> Any:
    """Copy experts that a mapped file left off a 16-byte boundary, where torch sums them in another order."""
    for weight in module.parameters():
        if weight.ndim == 3 and weight.device.type == "cpu" and weight.data_ptr() % 16:
            weight.data = weight.data.clone()
    return module


def _settings(config: Config) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _SAID_ELSEWHERE}
