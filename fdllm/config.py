"""A decoding run as a file: TOML, YAML or JSON tables to components and back.

Tables: `[model]`, `[generate]`, and one for each part of a decoder, `[schedule]`, `[cache]`,
`[policy]`, `[attention]`, with `name` and that component's own keys.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from fdllm import registry
from fdllm.attention.base import AttentionBackend
from fdllm.caches.base import CachePolicy
from fdllm.component import Component, SettingError, Settings, build, explain
from fdllm.config_files import read_table, read_value
from fdllm.models.spec import TokenIds
from fdllm.policies.base import UnmaskingPolicy
from fdllm.schedules.base import Schedule
from fdllm.temperatures.base import LEAST, MOST, TemperatureSchedule

if TYPE_CHECKING:
    from fdllm.decoder import Decoder
    from fdllm.models.denoiser import Denoiser


class Part(NamedTuple):
    """A table that holds a component: how to find one, and the name that keys without a name belong to, or ""."""

    group: str
    base: type[Component]
    default: str


PARTS = {
    "schedule": Part("schedules", Schedule, "blocks"),
    "cache": Part("caches", CachePolicy, "none"),
    "policy": Part("policies", UnmaskingPolicy, "threshold"),
    "temperature": Part("temperatures", TemperatureSchedule, ""),
    "attention": Part("attention", AttentionBackend, ""),
}


class ModelTable(Settings):
    """Which model, and what to take for true instead of what its checkpoint says."""

    path: str = Field("tiny", min_length=1, description="a hub id, a folder, or the name of a built-in model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype of the weights; auto: as the checkpoint says"
    )
    device: str = Field("auto", min_length=1, description="cpu, cuda, cuda:1 ...; auto: the GPU where there is one")
    tp: int = Field(1, ge=1, description="processes that share the model, each started by torchrun")
    family: str | None = Field(
        None, min_length=1, description="how the checkpoint is read, as `fdllm list models` names it; unset: as it says"
    )
    mask_id: int | None = Field(None, ge=0, description="token id of an open slot; unset: as the checkpoint says")
    noise: Literal["mask", "uniform"] | None = Field(
        None, description="what an open slot holds, the mask id or random ids; unset: as the model family does"
    )
    eos_ids: TokenIds | None = Field(
        None, description="token ids that end a text, the first one fills up; unset: as the checkpoint says"
    )
    vocab_size: int | None = Field(
        None, ge=2, description="token ids that may be produced; unset: all of the tokenizer"
    )
    context: int | None = Field(
        None, ge=2, description="longest prompt and response, in tokens; unset: as the checkpoint says"
    )
    shift: bool | None = Field(
        None, description="the logits of a slot predict the next one; unset: as the model family does"
    )
    pattern: Literal["full", "block-causal", "causal-prefix"] | None = Field(
        None, description="who attends to whom; unset: as the checkpoint says"
    )
    block_length: int | None = Field(
        None, ge=1, description="slots per block the model was trained with; unset: as the checkpoint says"
    )


class GenerateTable(Settings):
    """How much is decoded, and how a token is drawn."""

    max_new_tokens: int = Field(256, ge=1, description="slots of the response, in tokens")
    block_length: int | None = Field(
        None,
        ge=1,
        description="slots per block, the same as schedule.block_length; unset: as the model recommends, else its own",
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=MOST,
        description=f"0: the likeliest token; from {LEAST:g}: samples, logits divided by this; unset: as the model "
        "recommends, else 0",
    )
    top_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description="keep the likeliest tokens up to this total probability; confidence and every other signal "
        "describe what is left; unset: all",
    )
    top_k: int | None = Field(
        None,
        ge=1,
        description="keep this many of the likeliest tokens; confidence and every other signal describe what is left; "
        "unset: all",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of all noise; the same seed gives the same tokens")
    stop_at_eos: bool = Field(True, description="leave undecided what stands behind the first end of text")
    kernels: Literal["auto", "torch", "triton"] = Field(
        "auto",
        description="how statistics of logits are computed and K/V rotated and stored; auto: triton on a GPU, torch "
        "elsewhere",
    )
    execution: Literal["auto", "eager", "compile", "cudagraph", "static"] = Field(
        "auto",
        description="how steps are run: eager: call by call; compile: by torch.compile; cudagraph: recorded once a "
        "phase and replayed, on CUDA; static: the same on any device, slowly, to check it; auto: eager",
    )

    @field_validator("temperature")
    @classmethod
    def _divides(cls, given: float | None) -> float | None:
        if given is not None and 0 < given < LEAST:
            raise ValueError(f"wanted 0, or at least {LEAST:g}, got {given}; 0 takes the likeliest token")
        return given


class DecodingConfig(Settings):
    """Everything a decoding run is made of. Components are built, so checked, when it is read."""

    model: ModelTable = ModelTable()
    generate: GenerateTable = GenerateTable()
    schedule: Schedule = Field(default_factory=partial(build, "schedules", "blocks", Schedule, "schedule"))
    cache: CachePolicy | None = None
    policy: UnmaskingPolicy | None = None
    temperature: TemperatureSchedule | None = None
    attention: AttentionBackend | None = None

    @field_validator(*PARTS, mode="before")
    @classmethod
    def _build(cls, given: Any, info: ValidationInfo) -> Component:
        part = str(info.field_name)
        group, base, default = PARTS[part]
        if isinstance(given, dict) and "name" not in given and default:
            given = {"name": default, **given}
        return build(group, given, base, part)

    @model_validator(mode="after")
    def _one_temperature(self) -> Self:
        if None not in (self.temperature, self.generate.temperature):
            raise ValueError("generate.temperature: a number and a [temperature] schedule exclude each other; drop one")
        return self

    @model_validator(mode="after")
    def _one_block_length(self) -> Self:
        given = self.schedule.model_dump(exclude_unset=True).get("block_length")
        if None not in (given, self.generate.block_length) and given != self.generate.block_length:
            raise ValueError(
                f"generate.block_length: {self.generate.block_length} is not schedule.block_length = {given}; drop one"
            )
        return self

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a TOML, YAML or JSON file.

        Raises:
            ValueError: the file cannot be read (names file and line), or a key or value is wrong (names its key).

        """
        table = read_table(path)
        try:
            return cls.from_dict(table)
        except ValueError as error:
            raise SettingError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> Self:
        """Check tables as they stand in a file.

        Raises:
            SettingError: one line for each wrong key or value.

        """
        try:
            return cls.model_validate(dict(tables))
        except ValidationError as error:
            raise SettingError(explain(error, "", cls)) from None

    def with_overrides(self, overrides: Iterable[str]) -> Self:
        """Copy with some keys changed, as `--set` does.

        Args:
            overrides: `table.key=value` each; the value as in TOML or JSON, anything else is a string.
                `policy=top-k`, or `policy.name=top-k`, names another component and drops the keys of
                the one before.

        Raises:
            SettingError: not of that form, or what `from_dict` finds.

        """
        tables = self.to_dict()
        # names first: the other keys belong to the component named, in whatever order they are given
        for table, key, value in sorted(map(split_override, overrides), key=lambda given: given[1] != "name"):
            if key == "name" and table in PARTS and tables.get(table, {}).get("name") != value:
                tables[table] = {}
            tables.setdefault(table, {})[key] = value
        return self.from_dict(tables)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Give the tables back: every key that was set and the name of each component; `from_dict` reads them."""
        tables: dict[str, dict[str, Any]] = {
            name: getattr(self, name).model_dump(mode="json", exclude_unset=True, exclude_none=True)
            for name in ("model", "generate")
        }
        for name, part in PARTS.items():
            component: Component | None = getattr(self, name)
            if component is not None:
                keys = component.model_dump(mode="json", exclude_unset=True)
                tables[name] = {"name": component.registered_name(part.group), **keys}
        return tables

    def load_model(self) -> "Denoiser":
        """Load the model of `[model]`.

        Raises:
            ValueError: no such checkpoint, or one that does not fit; the message says what to do.

        """
        from fdllm.models.load import load

        return load(**self.model.model_dump(exclude_none=True))

    def compile(self, model: Any = None) -> "Decoder":
        """Build the decoder.

        Args:
            model: a model loaded before, to spare loading `[model]`.

        Raises:
            ValueError, PortError: the parts do not fit each other or the model.

        """
        from fdllm.compiling import compile as compile_decoder

        schedule = self.to_dict()["schedule"]
        return compile_decoder(
            self.load_model() if model is None else model,
            # as a table, for keys left out are the model's own
            schedule=schedule if schedule["name"] in registry.names("schedules") else self.schedule,
            cache=self.cache,
            policy=self.policy,
            attention=self.attention,
            **{"temperature": self.temperature, **self.generate.model_dump(exclude={"seed"}, exclude_none=True)},
        )


def split_override(given: str, named: Collection[str] = PARTS) -> tuple[str, str, Any]:
    """Split `policy.threshold=0.8` into table, key and value; `policy=top-k` sets the name, in tables that have one.

    Raises:
        SettingError: not of that form.

    """
    path, equals, value = given.partition("=")
    table, dot, key = path.strip().partition(".")
    if not dot and table in named:
        dot, key = ".", "name"
    if not (equals and dot and table and key):
        raise SettingError(f"{given!r}: wanted table.key=value, such as policy.threshold=0.8")
    try:
        return table, key, read_value(value.strip())
    except RecursionError:
        raise SettingError(f"{path.strip()}: nested too deeply") from None
