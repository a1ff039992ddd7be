"""Compute the statistics of a logit row together, and with the LM head where nobody else reads the logits.

One pass over the vocabulary instead of one each; with the head, a form may do without rows of
logits. `place` says which form runs.
"""

from fdllm.graph import Graph, Node, check
from fdllm.kernels.head_statistics.reference import HeadStatistics
from fdllm.kernels.row_statistics import NAMES
from fdllm.kernels.row_statistics.reference import RowStatistics
from fdllm.sampling import Greedy, Sample
from fdllm.step import Head


def fuse(graph: Graph) -> Graph:
    """Put the nodes that write row statistics of the same logits into one, then the head that writes the logits."""
    return _with_head(_together(graph))


def _together(graph: Graph) -> Graph:
    parts = [n for n in graph.nodes if set(n.writes) <= NAMES and "logits" in n.reads]
    draw = next((n.op for n in parts if isinstance(n.op, Greedy | Sample)), None)
    if draw is None or len(parts) < 2:
        return graph
    writes = {value: port for part in parts for value, port in part.writes.items()}
    reads = {value: port for part in parts for value, port in part.reads.items() if value not in writes}
    extra = tuple(value for value in reads if value != "logits")
    op = RowStatistics(draw, extra, tuple(writes))
    ordered = {"logits": reads["logits"], **{value: reads[value] for value in extra}}
    fused = Node(op, "row_statistics", f"RowStatistics({', '.join(writes)})", ordered, writes)
    return check(graph.with_nodes([*(n for n in graph.nodes if n not in parts), fused]))


def _with_head(graph: Graph) -> Graph:
    around = [n for n in graph.nodes if "logits" in {**n.writes, **n.reads}]
    if len(around) != 2 or "logits" in graph.outputs:
        return graph
    writer, reader = around
    head, rows = writer.op, reader.op
    if not isinstance(head, Head) or not isinstance(rows, RowStatistics):
        return graph
    weight = head.denoiser.head_weight()
    if weight is None:
        return graph
    op = HeadStatistics(weight, rows.draw, rows.reads, rows.wanted)
    reads = {**writer.reads, **{value: port for value, port in reader.reads.items() if value != "logits"}}
    fused = Node(op, "head_statistics", f"HeadStatistics({', '.join(reader.writes)})", reads, reader.writes)
    return check(graph.with_nodes([*(n for n in graph.nodes if n not in (writer, reader)), fused]))
