"""Wire components into the graph of one denoising step: values read by name, found by name.

It starts from the policy and adds, for every value somebody reads and nobody writes, the
signal registered under that name, the column carried from the step before, or nothing; what
is then still missing is an error of `check`.
"""

from collections.abc import Iterable
from dataclasses import replace

from fdllm import registry, step
from fdllm.columns import CARRIED, PREVIOUS, Column
from fdllm.graph import Graph, Node, PortError, node
from fdllm.passes.engine import engine, taken
from fdllm.policies.base import UnmaskingPolicy
from fdllm.types import (
    CanvasMask,
    CanvasTokens,
    Count,
    FeedPort,
    Fraction,
    Mask,
    NoiseKey,
    Port,
    Slots,
    StepCount,
    StorePort,
    port_of,
)
from fdllm.wiring import Wiring

_PORTS = {
    "canvas": CanvasTokens,
    "open_slots": CanvasMask,
    "window": Slots,
    "feed": FeedPort,
    "store": StorePort,
    "noise": NoiseKey,
    "quota": Count,
    "step": StepCount,
    "steps": StepCount,
    "progress": Fraction,
}
INPUTS = {name: port_of(alias) for name, alias in _PORTS.items()}
_MASK = port_of(Mask)


def resolve(parts: Wiring, wanted: Iterable[str] = ()) -> tuple[Graph, dict[str, Column]]:
    """Build the graph of one step, not yet checked.

    Args:
        parts: components of the step.
        wanted: further values to give out, such as `confidence` for a trace.

    Returns:
        The graph and the columns it carries. Its outputs are the canvas, the open slots and every
        column after the step, then `committed`, `reopened` where the policy revokes, and `wanted`.

    """
    graph = Graph(dict(INPUTS), (*engine(parts), _policy(parts.policy)), ())
    if not parts.planned:
        graph = replace(graph, inputs={k: v for k, v in INPUTS.items() if k != "quota"})
    graph = _with_signals(graph, wanted)
    columns = _columns(graph, parts.policy)
    graph = _carried(graph, columns)
    revoked = ("reopened",) if parts.policy.revokes else ()
    states = ("next_canvas", "next_open_slots", *(f"next_{name}_column" for name in columns))
    return replace(graph, outputs=(*states, "committed", *revoked, *wanted)), columns


def _policy(policy: UnmaskingPolicy) -> Node:
    """The policy's node: `commit`, `reopen` or `draft`, and `next_<column>` for its own columns."""
    if policy.drafts and policy.revokes:
        raise PortError(f"{policy!r} drafts and revokes; one of them: a draft is open, so there is nothing to reopen")
    made = node(policy.rule(), "policy", title=repr(policy))
    given = {"commit" if name == "policy" else name: port for name, port in made.writes.items()}
    verbs = {"commit", *["reopen"] * policy.revokes, *["draft"] * policy.drafts}
    if set(given) != verbs | set(policy.columns):
        raise PortError(
            f"{policy!r} returns {', '.join(given)}; wanted {', '.join(sorted(verbs | set(policy.columns)))}: commit, "
            "reopen only with revokes = True, draft only with drafts = True, and one field per own column"
        )
    for verb in verbs:
        if given[verb] != _MASK:
            raise PortError(f"{policy!r} returns {verb} as {given[verb]}; wanted {_MASK}")
    return replace(made, writes={name if name in verbs else f"next_{name}": port for name, port in given.items()})


def _with_signals(graph: Graph, wanted: Iterable[str]) -> Graph:
    """Add the registered signal of every value that is read and not there, and of those it reads."""
    nodes = list(graph.nodes)
    have = {*INPUTS, *(value for n in nodes for value in n.writes)}
    _refuse_taken(have)
    asked = [*wanted, *(value for n in nodes for value in n.reads)]
    for value in asked:
        name = value.removeprefix(PREVIOUS)
        if name in have or name not in registry.names("signals"):
            continue
        nodes.append(_signal(name))
        have.add(name)
        asked.extend(nodes[-1].reads)
    return graph.with_nodes(nodes)


def _refuse_taken(engine: set[str]) -> None:
    """Refuse a signal that could never be read: the engine gives that name, or it is no name at all."""
    for name, entry in registry.names("signals").items():
        if name in engine or not name.isidentifier():
            why = "the engine gives a value of that name" if name in engine else "a parameter cannot be called that"
            raise registry.PluginError(f"signal {name!r} of {registry.owner(entry)}: {why}; rename it")


def _signal(name: str) -> Node:
    function = registry.load("signals", name)
    if not callable(function):
        entry = registry.names("signals")[name]
        raise registry.PluginError(f"signal {name!r} of {registry.owner(entry)} is not a function; register one")
    return node(function, f"signal_{name}", writes=(name,), title=f"signal {name}")


def _columns(graph: Graph, policy: UnmaskingPolicy) -> dict[str, Column]:
    """State carried across steps: the policy's own columns, and every `previous_<value>` that is read."""
    ports = graph.ports()
    columns = {name: _column(name, ports[f"next_{name}"], fill) for name, fill in policy.columns.items()}
    for reader in graph.nodes:
        for value in reader.reads:
            source = value.removeprefix(PREVIOUS)
            if value != source and value not in columns and source in ports:
                columns[value] = _column(value, ports[source], _nothing_yet(ports[source]))
    return columns


def _column(name: str, port: Port, fill: float) -> Column:
    if port.dims not in CARRIED:
        raise PortError(f"{name!r} would carry {port} from step to step; wanted one of the dims {', '.join(CARRIED)}")
    return Column(port, fill)


def _nothing_yet(port: Port) -> float:
    return {"float": float("nan"), "int64": -1}.get(port.kind, 0)


def _carried(graph: Graph, columns: dict[str, Column]) -> Graph:
    """Add reading and writing back of each column around the window."""
    nodes, inputs = list(graph.nodes), dict(graph.inputs)
    for name, column in columns.items():
        after = name.removeprefix(PREVIOUS) if f"next_{name}" not in graph.ports() else f"next_{name}"
        if not column.by_slot:
            held = column.port
            nodes.append(Node(_same, f"take_{name}", f"take {name}", {f"{name}_column": held}, {name: held}))
            nodes.append(Node(_same, f"put_{name}", f"put {name}", {after: held}, {f"next_{name}_column": held}))
        else:
            held = replace(column.port, dims="B N")
            nodes.append(taken(name, f"{name}_column", column.port))
            reads = {f"{name}_column": held, "window": INPUTS["window"], after: column.port}
            nodes.append(Node(step.put, f"put_{name}", f"put {name}", reads, {f"next_{name}_column": held}))
        inputs[f"{name}_column"] = held
    return replace(graph, inputs=inputs, nodes=tuple(nodes))


def _same(value: object) -> object:
    return value
