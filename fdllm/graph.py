"""The step graph: callables wired by the names of their parameters, checked by their annotations.

A node's parameter names say which values it reads, the annotations say what kind each must be,
the return says what it writes. Nothing is declared twice. A graph is checked once, when it is
built; every message names both ends of the edge.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fdllm.types import Port, port_of


class PortError(TypeError):
    """Two ends of an edge do not agree, or one of them is missing."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of the step.

    Attributes:
        op: what is called, with the values of `reads` in order.
        name: how the emitted program calls it; an identifier.
        title: how messages and pictures call it, such as `Threshold(threshold=0.9)`.
        reads: value name to the port it must have, in the order of the parameters.
        writes: value name to its port; several when the operation returns a NamedTuple.

    """

    op: Callable[..., Any]
    name: str
    title: str
    reads: Mapping[str, Port]
    writes: Mapping[str, Port]


@dataclass(frozen=True)
class Graph:
    """One denoising step: values given from outside, operations, values wanted at the end."""

    inputs: Mapping[str, Port]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def with_nodes(self, nodes: Iterable[Node]) -> "Graph":
        """Copy with other nodes."""
        return replace(self, nodes=tuple(nodes))

    def ports(self) -> dict[str, Port]:
        """Every value of the graph with its port."""
        return {**self.inputs, **{name: port for node in self.nodes for name, port in node.writes.items()}}


def node(
    op: Callable[..., Any],
    name: str,
    *,
    title: str = "",
    writes: tuple[str, ...] = (),
    rename: Mapping[str, str] | None = None,
) -> Node:
    """Make a node from a callable's signature.

    Args:
        op: a function, a bound method or an object with `__call__`.
        name: its name in the emitted program, and of its value when it returns a single one.
        title: its name in messages; `name` when empty.
        writes: names of what it returns, instead of `name` or the NamedTuple's fields.
        rename: parameter name to value name, where they differ.

    Raises:
        PortError: a parameter or the return has no port.

    """
    title = title or name
    function = op if inspect.isroutine(op) else op.__call__  # type: ignore[operator]
    hints = _hints(function, title)
    renamed = rename or {}
    reads: dict[str, Port] = {}
    for parameter in inspect.signature(op).parameters:
        reads[renamed.get(parameter, parameter)] = _port(hints.get(parameter), f"{title}: parameter {parameter!r}")
    return Node(op, name, title, reads, _written(hints.get("return"), name, title, writes))


def _hints(annotated: Any, title: str) -> dict[str, Any]:
    try:
        return get_type_hints(annotated, include_extras=True)
    except NameError as error:
        raise PortError(f"{title}: an annotation cannot be read: {error}; import it outside TYPE_CHECKING") from None


def _port(hint: Any, where: str) -> Port:
    """Read the port off an annotation."""
    if get_origin(hint) is Annotated and any(isinstance(extra, Port) for extra in get_args(hint)):
        return port_of(hint)
    raise PortError(f"{where} has no port; annotate it with an alias of fdllm.types, such as Probability")


def _written(hint: Any, name: str, title: str, writes: tuple[str, ...]) -> dict[str, Port]:
    fields = getattr(hint, "_fields", ())
    if not fields:
        return {(writes or (name,))[0]: _port(hint, f"{title}: the return")}
    if writes and len(writes) != len(fields):
        raise PortError(f"{title} returns {', '.join(fields)}; wanted one value, {', '.join(writes)}")
    hints = _hints(hint, title)
    return {w: _port(hints[f], f"{title}: result {f!r}") for w, f in zip(writes or fields, fields, strict=True)}


def check(graph: Graph, *, known: Iterable[str] = ()) -> Graph:
    """Refuse a graph that is not well wired, and put its nodes in an order that can run.

    Args:
        graph: what to check.
        known: further names a user may have meant, for suggestions.

    Returns:
        The same graph, every node after those it reads from.

    Raises:
        PortError: two writers of one value, a value nobody writes, a port that does not fit, a cycle.

    """
    writers = _writers(graph)
    ports = graph.ports()
    for reader in graph.nodes:
        for value, wanted in reader.reads.items():
            if value not in ports:
                raise PortError(_missing(reader.title, value, str(wanted), {*ports, *known}))
            if wanted != ports[value]:
                source = writers[value].title if value in writers else "the engine"
                raise PortError(f"{reader.title} reads {value!r} as {wanted}, but {source} writes {ports[value]}")
    for value in graph.outputs:
        if value not in ports:
            raise PortError(_missing("the engine", value, "a result", {*ports, *known}))
    return _ordered(graph, writers)


def _writers(graph: Graph) -> dict[str, Node]:
    writers: dict[str, Node] = {}
    for writer in graph.nodes:
        for value in writer.writes:
            if value in graph.inputs:
                raise PortError(f"{writer.title} writes {value!r}, which the engine gives; rename one of them")
            if value in writers:
                raise PortError(f"{writers[value].title} and {writer.title} both write {value!r}; rename one of them")
            writers[value] = writer
    return writers


def _missing(reader: str, value: str, wanted: str, known: set[str]) -> str:
    close = get_close_matches(value, sorted(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"values there are: {', '.join(sorted(known))}"
    return f"{reader} reads {value!r} ({wanted}), but nothing writes it; {hint}"


def _ordered(graph: Graph, writers: Mapping[str, Node]) -> Graph:
    sources = {n: [writers[v] for v in n.reads if v in writers] for n in graph.nodes}
    try:
        return graph.with_nodes(TopologicalSorter(sources).static_order())
    except CycleError as error:
        around = " -> ".join(n.title for n in reversed(error.args[1]))
        raise PortError(f"these wait for one another: {around}; one of them must not read the next") from None


def source(graph: Graph, name: str) -> str:
    """Write the graph as one flat Python function, a call a line."""
    lines = [f"def {name}({', '.join(graph.inputs)}):"]
    for each in graph.nodes:
        lines.append(f"    {', '.join(each.writes)} = {each.name}({', '.join(each.reads)})")
    return "\n".join([*lines, f"    return {', '.join(graph.outputs)},"]) + "\n"


def emit(graph: Graph, name: str) -> Callable[..., tuple[Any, ...]]:
    """Compile `source(graph, name)`.

    Raises:
        PortError: a value has the name of an operation.

    """
    values, names = graph.ports(), [each.name for each in graph.nodes]
    if taken := sorted(set(names) & set(values)):
        raise PortError(f"{taken[0]!r} names a value and an operation of the step; rename the value")
    assert len(set(names)) == len(names), "two nodes share a name"
    namespace: dict[str, Any] = {each.name: each.op for each in graph.nodes}
    exec(compile(source(graph, name), f"<fdllm {name}>", "exec"), namespace)
    return namespace[name]  # type: ignore[no-any-return]


def picture(graph: Graph) -> str:
    """Draw the graph as text: a line per node, `reads -> title -> writes`, then the outputs."""
    ports = graph.ports()
    lines = [
        f"  {', '.join(each.reads) or '-'} -> {each.title} -> {', '.join(f'{v}: {ports[v]}' for v in each.writes)}"
        for each in graph.nodes
    ]
    return "\n".join([*lines, f"  outputs: {', '.join(graph.outputs)}"])
