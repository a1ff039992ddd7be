"""Drop what nobody reads: walk back from the outputs, keep the nodes met on the way."""

from fdllm.graph import Graph


def demand(graph: Graph) -> Graph:
    """Keep the nodes the outputs depend on, and the inputs those read. Nodes come in running order, as from `check`."""
    needed = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if needed & set(node.writes):
            needed |= set(node.reads)
            kept.append(node)
    inputs = {name: port for name, port in graph.inputs.items() if name in needed}
    return Graph(inputs, tuple(reversed(kept)), graph.outputs)
