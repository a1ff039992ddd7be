"""Compute the statistics of a logit row together: one pass over the vocabulary instead of one each."""

from fdllm.graph import Graph, Node, check
from fdllm.kernels.row_statistics import NAMES
from fdllm.kernels.row_statistics.reference import RowStatistics


def fuse(graph: Graph) -> Graph:
    """Put the nodes that write row statistics of the same logits into one."""
    parts = [n for n in graph.nodes if set(n.writes) <= NAMES and "logits" in n.reads]
    draw = next((n for n in parts if "candidate" in n.writes), None)
    # a draw that reads a temperature as well is left as it is
    if draw is None or len(parts) < 2 or not {*draw.reads} <= {"logits", "noise"}:
        return graph
    writes = {value: port for part in parts for value, port in part.writes.items()}
    reads = {value: port for part in parts for value, port in part.reads.items() if value not in writes}
    extra = tuple(value for value in reads if value != "logits")
    op = RowStatistics(draw.op, extra, tuple(writes))
    ordered = {"logits": reads["logits"], **{value: reads[value] for value in extra}}
    fused = Node(op, "row_statistics", f"RowStatistics({', '.join(writes)})", ordered, writes)
    return check(graph.with_nodes([*(n for n in graph.nodes if n not in parts), fused]))
