"""The conventions of a diffusion LM that a decoding loop has to know."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from fdllm.component import Settings


def _as_tuple(given: Any) -> Any:
    """See one id, or a list as files have it, as a tuple."""
    if isinstance(given, int):
        return (given,)
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | Mapping) else given


TokenIds = Annotated[tuple[int, ...], BeforeValidator(_as_tuple)]


class Spec(Settings):
    """Facts about a model, not choices. Frozen; a foreign model comes with one of these."""

    mask_id: int | None = Field(None, ge=0, description="id an open slot holds; never produced")
    noise: Literal["mask", "uniform"] = Field(
        "mask", description="what an open slot holds: mask, the mask id; uniform, any id of the vocabulary, by chance"
    )
    eos_ids: TokenIds = Field((), description="ids that end a text")
    vocab_size: int | None = Field(None, ge=2, description="ids that may be produced are below; None: all it scores")
    context: int | None = Field(None, ge=2, description="longest canvas the model takes, in slots; None: any")
    shift: bool = Field(False, description="logits at slot i predict slot i + 1 (Dream), not slot i (LLaDA)")
    pattern: Literal["full", "block-causal", "causal-prefix"] = Field(
        "full",
        description="who attends to whom: full; block-causal (its own block and those before); "
        "causal-prefix (causal up to the window, and the window to itself and all before)",
    )
    block_length: int = Field(
        32, ge=1, description="block the model was trained with, in slots; block-causal counts blocks from slot 0"
    )

    @model_validator(mode="after")
    def _ids_fit(self) -> "Spec":
        if self.noise == "mask" and self.mask_id is None:
            raise ValueError("mask_id: required, for open slots hold it; or say noise = 'uniform'")
        if self.noise == "uniform" and (self.mask_id is not None or self.vocab_size is None):
            raise ValueError("noise: uniform noise has no mask_id, and needs vocab_size to draw from")
        if self.mask_id is not None and self.mask_id in self.eos_ids:
            raise ValueError(f"eos_ids: {self.mask_id} is the mask id, which never stands in a finished text")
        if wrong := [i for i in self.eos_ids if i < 0 or (self.vocab_size is not None and i >= self.vocab_size)]:
            raise ValueError(f"eos_ids: {wrong} lie outside the vocabulary of {self.vocab_size} ids")
        return self
