"""The compiler: components to one flat step program per phase.

    resolve -> check -> demand -> fuse -> place -> emit

Each pass is a function from graph to graph. A phase is a kind of forward: `full` (every slot,
nothing kept), `refresh` (every slot, K/V kept) and `reuse` (some slots, the others as stored).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fdllm import registry
from fdllm.caches.base import CachePolicy
from fdllm.columns import PREVIOUS, Column
from fdllm.graph import Graph, check, emit, picture, source
from fdllm.passes.demand import demand
from fdllm.passes.fuse import fuse
from fdllm.passes.place import form, phases, place
from fdllm.passes.resolve import resolve
from fdllm.temperatures.base import TemperatureSchedule
from fdllm.wiring import Wiring

# what goes with any policy, by attention pattern
_SOUND = {
    "full": "'dual', 'prefix' or 'none'",
    "block-causal": "'block-causal' or 'none'",
    "causal-prefix": "'block-causal' or 'none'",
}


class UnsoundError(ValueError):
    """Two components do not go together; the message says why and what to choose instead."""


@dataclass(frozen=True)
class Program:
    """A compiled step.

    Attributes:
        phase: `full`, `refresh` or `reuse`.
        graph: what was emitted.
        run: the emitted function; takes `graph.inputs` by name, returns `graph.outputs`.

    """

    phase: str
    graph: Graph
    run: Callable[..., tuple[Any, ...]]

    def __call__(self, **values: Any) -> dict[str, Any]:
        """Run one step; values the program does not read are an error of ours."""
        return dict(zip(self.graph.outputs, self.run(**values), strict=True))

    @property
    def source(self) -> str:
        """The emitted Python."""
        return source(self.graph, f"{self.phase}_step")


@dataclass(frozen=True)
class Compiled:
    """All programs of a decoder, and how they came about.

    Attributes:
        programs: one per phase.
        columns: state carried across steps besides tokens and open slots.
        stages: the graph after each pass, by the pass's name.

    """

    programs: Mapping[str, Program]
    columns: Mapping[str, Column]
    stages: Mapping[str, Graph]

    def explain(self, with_source: bool = False) -> str:
        """Print the graph after each pass; with the emitted programs when asked."""
        parts, before = [], None
        for name, graph in self.stages.items():
            now = picture(graph)
            parts.append(f"after {name}:\n{now if now != before else '  (as before)'}")
            before = now
        if with_source:
            parts += [f"{phase}:\n\n{program.source}" for phase, program in self.programs.items()]
        return "\n\n".join(parts)


def compile_step(parts: Wiring, cache: CachePolicy, wanted: tuple[str, ...] = ()) -> Compiled:
    """Compile one step for every phase.

    Args:
        parts: what the step is made of.
        cache: says which phases there are.
        wanted: values to give out besides the state, such as `confidence` for a trace.

    Raises:
        UnsoundError: the cache does not suit the model or the policy, or the backend the device.
        fdllm.graph.PortError: the graph is not well wired.
        fdllm.component.SettingError: kernels are asked for that cannot run here.

    """
    check_pair(parts, cache)
    check_device(parts)
    graph, columns = resolve(parts, wanted)
    stages = {"resolve": check(graph, known=known_values(graph))}
    stages["demand"] = demand(stages["resolve"])
    stages["fuse"] = fuse(stages["demand"])
    device = parts.denoiser.device
    how = form(parts.kernels, device)
    placed = {phase: place(stages["fuse"], phase, how, device) for phase in phases(cache)}
    programs = {phase: Program(phase, graph, emit(graph, f"{phase}_step")) for phase, graph in placed.items()}
    return Compiled(programs, columns, {**stages, **{f"place ({phase})": g for phase, g in placed.items()}})


def known_values(graph: Graph) -> set[str]:
    """Every value name a component could have meant."""
    names = {*graph.ports(), *registry.names("signals")}
    return names | {PREVIOUS + name for name in registry.names("signals")}


def check_pair(parts: Wiring, cache: CachePolicy) -> None:
    """Refuse a cache that does not suit the model or the policy, and sampling that does not suit the policy.

    Raises:
        UnsoundError: says what breaks and what to choose.

    """
    spec, policy = parts.denoiser.spec, parts.policy
    if cache.stores and not parts.denoiser.stores:
        raise UnsoundError(f"{cache!r} keeps K/V, but {parts.denoiser.name} has no K/V store; use cache 'none'")
    annealed = isinstance(parts.sampling.temperature, TemperatureSchedule)
    if annealed and parts.sampling.narrowed and not policy.tempered:
        raise UnsoundError(
            f"top_p and top_k cut at the sampling temperature, which {parts.sampling.temperature!r} changes at every "
            f"step while {policy!r} reads signals at temperature 1; give a number as temperature, or drop them"
        )
    if spec.pattern not in cache.patterns:
        raise UnsoundError(
            f"{cache!r} is meant for {' or '.join(cache.patterns)} attention, but {parts.denoiser.name} is "
            f"{spec.pattern}; use cache 'none' or one made for {spec.pattern} models"
        )
    if (policy.reads == "window" or policy.revokes) and cache.fresh == "open":
        raise UnsoundError(
            f"{policy!r} reads filled slots of the window, but {cache!r} recomputes only open ones, so their "
            f"signals would be stale; use cache {_SOUND[spec.pattern]}"
        )
    if policy.revokes and cache.freezes:
        raise UnsoundError(
            f"{policy!r} reopens slots, but {cache!r} may never recompute slots that saw the revoked tokens; "
            f"use cache {_SOUND[spec.pattern]}"
        )


def check_device(parts: Wiring) -> None:
    """Refuse an attention backend that cannot run where the model is.

    Raises:
        UnsoundError: says what the backend wants.

    """
    device = parts.denoiser.device
    if why := parts.attention.refusal(device):
        raise UnsoundError(f"attention: {parts.attention!r} cannot run on {device}: it {why}")
