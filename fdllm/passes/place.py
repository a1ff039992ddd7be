"""Say where and in which form each node runs: one graph per phase.

A phase is a kind of forward, so that every program has static shapes and can be captured on its
own. Statistics are the torch reference on every device.
"""

from dataclasses import replace

from fdllm.caches.base import CachePolicy
from fdllm.graph import Graph, check, node
from fdllm.step import ConditionedForward, ConditionedForwardAlone, Forward, ForwardAlone

ALONE: dict[type, type] = {Forward: ForwardAlone, ConditionedForward: ConditionedForwardAlone}


def phases(cache: CachePolicy) -> tuple[str, ...]:
    """Name the kinds of forward a cache asks for."""
    return ("refresh", "reuse") if cache.stores else ("full",)


def place(graph: Graph, phase: str) -> Graph:
    """Bind the forward to its phase: `full` keeps nothing and needs no store."""
    if phase != "full":
        return graph
    nodes = [
        node(ALONE[type(n.op)](n.op.denoiser, n.op.attention), n.name, writes=tuple(n.writes), title=n.title)
        if isinstance(n.op, Forward | ConditionedForward)
        else n
        for n in graph.nodes
    ]
    inputs = {name: port for name, port in graph.inputs.items() if name != "store"}
    return check(replace(graph, inputs=inputs, nodes=tuple(nodes)))
