"""`fdllm.compile`: names, tables or objects to a decoder."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from fdllm.attention.base import AttentionBackend
from fdllm.caches.base import CachePolicy
from fdllm.component import SettingError, build
from fdllm.decoder import Decoder, Plan
from fdllm.execution.choose import NAMES
from fdllm.models.denoiser import Denoiser
from fdllm.models.foreign import foreign
from fdllm.models.spec import Spec
from fdllm.passes.place import KERNELS
from fdllm.policies.base import UnmaskingPolicy
from fdllm.schedules.base import Schedule
from fdllm.temperatures.base import LEAST, MOST, TemperatureSchedule
from fdllm.wiring import Sampling, Wiring

# what a part is where neither the call nor the model says
FALLBACK: Mapping[str, Any] = {"cache": "none", "policy": "threshold", "temperature": 0.0, "block_length": None}


def compile(  # noqa: A001 - the public name says what it does
    model: Denoiser | nn.Module | Callable[..., Any],
    *,
    spec: Spec | None = None,
    cache: str | dict[str, Any] | CachePolicy | None = None,
    policy: str | dict[str, Any] | UnmaskingPolicy | None = None,
    schedule: str | dict[str, Any] | Schedule = "blocks",
    attention: str | dict[str, Any] | AttentionBackend | None = None,
    max_new_tokens: int = 256,
    block_length: int | None = None,
    temperature: float | str | dict[str, Any] | TemperatureSchedule | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    stop_at_eos: bool = True,
    kernels: str = "auto",
    execution: str = "auto",
) -> Decoder:
    """Compile a decoder for a model.

    Cache, policy, block length and temperature left out are those that the model's authors recommend
    (`model.defaults`); where these say nothing either, cache `none`, policy `threshold`, the model's
    block, temperature 0. `explain` shows which were taken from the model.

    Args:
        model: what `fdllm.load` gave, or with `spec` a transformers module or a function from ids
            int64[B n] (and lengths int64[B]) to logits float[B n V].
        spec: conventions of a foreign model; a loaded one has its own.
        cache: which slots each step recomputes.
        policy: which open slots each step commits.
        schedule: which slots may be decided now.
        attention: how attention is computed; the model's own choice unless given.
        max_new_tokens: slots of the response.
        block_length: slots per block; short for the `blocks` schedule's key, the model's own unless given.
        temperature: 0 takes the likeliest token, above it tokens are drawn; or a schedule of temperatures.
        top_p: draw from the smallest set of ids whose probability exceeds this.
        top_k: draw from this many likeliest ids.
        stop_at_eos: a row is done when an eos stands with no open slot before it.
        kernels: how statistics are computed and K/V rotated and stored: `torch`, `triton`, or `auto`: Triton on
            a GPU.
        execution: how steps are run: `eager`, call by call; `compile`, by torch.compile; `cudagraph`, recorded
            once a phase and replayed; `static`, the same on any device, slowly, as a check; `auto` is `eager`.

    Raises:
        SettingError: a setting is wrong; the message names its key.
        fdllm.registry.UnknownNameError, fdllm.registry.PluginError: a component cannot be found or used.
        fdllm.graph.PortError: the parts do not fit together.
        fdllm.compiler.UnsoundError: the cache does not suit the model or the policy, or the backend the device.
        fdllm.execution.base.ExecutionError: steps cannot be run that way on this device.

    """
    if kernels not in KERNELS:
        raise SettingError(f"kernels: wanted one of {', '.join(KERNELS)}, got {kernels!r}")
    denoiser = as_denoiser(model, spec)
    given = {"cache": cache, "policy": policy, "temperature": temperature, "block_length": block_length}
    recommended = _recommended(denoiser, given, schedule)
    chosen = {**FALLBACK, **recommended, **{key: value for key, value in given.items() if value is not None}}
    sampling = Sampling(_temperature(chosen["temperature"]), top_p, top_k)
    _check_generate(max_new_tokens, sampling, stop_at_eos)
    if execution not in NAMES:
        raise SettingError(f"execution: wanted one of {', '.join(NAMES)}, got {execution!r}")
    _check_context(max_new_tokens, denoiser.spec)
    parts = Wiring(
        denoiser=denoiser,
        policy=build("policies", chosen["policy"], UnmaskingPolicy, "policy"),
        attention=build(
            "attention", denoiser.attention if attention is None else attention, AttentionBackend, "attention"
        ),
        sampling=sampling,
        planned=False,
        kernels=kernels,
    )
    plan = Plan(
        cache=build("caches", chosen["cache"], CachePolicy, "cache"),
        schedule=_schedule(schedule, chosen["block_length"], denoiser.spec),
        max_new_tokens=max_new_tokens,
        stop_at_eos=stop_at_eos,
        recommended=tuple(sorted(recommended)),
        execution=execution,
    )
    return Decoder(parts, plan)


def as_denoiser(model: Any, spec: Spec | None) -> Denoiser:
    """See a model as a denoiser: as it is, or wrapped by `fdllm.models.foreign`."""
    if isinstance(model, Denoiser):
        if spec is not None:
            raise SettingError(
                "spec: this model has its own; override it when loading, as fdllm.load(..., mask_id=...)"
            )
        return model
    if not callable(model):
        raise SettingError(f"model: wanted what fdllm.load gives, a module or a function, got {type(model).__name__}")
    if not isinstance(spec, Spec):
        got = "" if spec is None else f", got {type(spec).__name__}"
        raise SettingError(
            f"spec: a foreign model needs one, such as fdllm.Spec(mask_id=126336, eos_ids=(126081,)){got}"
        )
    return foreign(model, spec)


def _recommended(denoiser: Denoiser, given: Mapping[str, Any], schedule: Any) -> dict[str, Any]:
    """Take from the model what the call leaves out; a schedule with keys of its own says its blocks itself."""
    defaults, size = denoiser.defaults, denoiser.spec.block_length
    if wrong := sorted(set(defaults) - set(given)):
        raise SettingError(f"defaults: a model may recommend {', '.join(sorted(given))}, not {', '.join(wrong)}")
    said = {key for key, value in given.items() if value is not None}
    # sub-blocks of the published block do not fit one that was given by hand
    if schedule not in ("blocks", {"name": "blocks"}) or size % defaults.get("block_length", size):
        said.add("block_length")
    return {key: value for key, value in defaults.items() if key not in said}


def _temperature(given: Any) -> Any:
    """Build a schedule where one is named; a number stays as it is."""
    named = isinstance(given, str | dict | TemperatureSchedule)
    return build("temperatures", given, TemperatureSchedule, "temperature") if named else given


def _schedule(given: Any, block_length: int | None, spec: Spec) -> Schedule:
    if isinstance(given, Schedule):
        if block_length is not None:
            raise SettingError("block_length: the schedule given has its own; drop one of them")
        return given
    table = {"name": given} if isinstance(given, str) else given
    if isinstance(table, dict) and table.get("name") == "blocks":
        if block_length is not None and table.get("block_length", block_length) != block_length:
            raise SettingError("block_length: differs from schedule.block_length; drop one of them")
        table = {"block_length": spec.block_length if block_length is None else block_length, **table}
    elif block_length is not None:
        raise SettingError("block_length: only the 'blocks' schedule has it; give the schedule's own keys")
    return build("schedules", table, Schedule, "schedule")


def _check_context(max_new_tokens: int, spec: Spec) -> None:
    """Refuse a response that no prompt fits before, before its windows are listed."""
    if spec.context is not None and max_new_tokens > spec.context:
        raise SettingError(
            f"max_new_tokens: {max_new_tokens} slots are over the model's context of {spec.context}; lower it"
        )


def _check_generate(max_new_tokens: int, sampling: Sampling, stop_at_eos: bool) -> None:
    """Hold the bounds of what is no component."""
    wanted: dict[str, tuple[Any, Any, str, Callable[[Any], bool]]] = {
        "max_new_tokens": (max_new_tokens, int, "a whole number of at least 1", lambda v: v >= 1),
        "temperature": (
            sampling.temperature,
            (int, float, TemperatureSchedule),
            f"0, a number from {LEAST:g} to {MOST:g}, or a schedule",
            lambda v: isinstance(v, TemperatureSchedule) or v == 0 or LEAST <= v <= MOST,
        ),
        "top_p": (sampling.top_p, (int, float), "a number in (0, 1], or None", lambda v: 0 < v <= 1),
        "top_k": (sampling.top_k, int, "a whole number of at least 1, or None", lambda v: v >= 1),
    }
    for key, (value, kinds, words, fits) in wanted.items():
        if value is None and key.startswith("top"):
            continue
        if isinstance(value, bool) or not isinstance(value, kinds) or not fits(value):
            raise SettingError(f"{key}: wanted {words}, got {value!r}")
    if not isinstance(stop_at_eos, bool):
        raise SettingError(f"stop_at_eos: wanted true or false, got {stop_at_eos!r}")
