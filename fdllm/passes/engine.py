"""The nodes that every step has whatever the policy: forward, head, draw, legality, progress, writing back."""

from collections.abc import Callable
from dataclasses import replace
from inspect import isroutine, signature
from typing import Any

from fdllm import step
from fdllm.graph import Node, node
from fdllm.sampling import Divide, Greedy, Sample, SampleAt, Truncate, Vocabulary, divide_at
from fdllm.temperatures.base import TemperatureSchedule
from fdllm.types import Mask, Port, Slots, Tokens, port_of
from fdllm.wiring import Wiring


def engine(parts: Wiring) -> list[Node]:
    """Make the engine's nodes; those nobody reads fall away later."""
    kind = step.ConditionedForward if parts.denoiser.conditioned else step.Forward
    forward = kind(parts.denoiser, parts.attention)
    return [
        taken("tokens", "canvas", port_of(Tokens)),
        taken("masked", "open_slots", port_of(Mask)),
        node(forward, "forward", writes=("hidden",), title=f"{kind.__name__}({parts.attention!r})"),
        *_drawing(parts),
        node(step.chance, "chance", writes=("uniform",)),
        *_settling(parts),
    ]


def taken(value: str, column: str, port: Port) -> Node:
    """Make the node that reads a column of the canvas at the window."""
    reads = {column: replace(port, dims="B N"), "window": port_of(Slots)}
    return Node(step.take, f"take_{value}", f"take {value}", reads, {value: port})


def _drawing(parts: Wiring) -> list[Node]:
    """From hidden states to the logits that signals read, and the candidate drawn from them."""
    spec, how = parts.denoiser.spec, parts.sampling
    vocabulary = Vocabulary(spec.mask_id, spec.vocab_size)
    likeliest = Greedy(vocabulary)
    stages = _stages(parts, vocabulary)
    # each stage writes what the next one reads, the last one what everybody reads
    names = [*(next(iter(signature(op).parameters)) for op in stages), "logits"]
    nodes = [node(step.Head(parts.denoiser), "head", writes=(names[0],), title="Head")]
    for op, name in zip(stages, names[1:], strict=True):
        nodes.append(node(op, f"to_{name}", writes=(name,), title=_titled(op)))
    if isinstance(how.temperature, TemperatureSchedule):
        nodes.append(node(how.temperature, "anneal", writes=("temperature",), title=repr(how.temperature)))
    draw = _draw(parts, vocabulary)
    return [
        *nodes,
        node(draw, "draw", writes=("candidate",), title=repr(draw)),
        node(likeliest, "top", writes=("likeliest",), title=repr(likeliest)),
    ]


def _stages(parts: Wiring, vocabulary: Vocabulary) -> list[Callable[..., Any]]:
    """What happens to the head's logits before anybody reads them."""
    how, tempered = parts.sampling, parts.policy.tempered
    stages: list[Callable[..., Any]] = []
    constant = 1.0 if isinstance(how.temperature, TemperatureSchedule) else how.temperature
    if tempered and constant:
        stages.append(divide_at if isinstance(how.temperature, TemperatureSchedule) else Divide(constant))
    if how.narrowed:
        stages.append(Truncate(vocabulary, how.top_p, how.top_k, 1.0 if stages else constant))
    return stages


def _draw(parts: Wiring, vocabulary: Vocabulary) -> Greedy | Sample | SampleAt:
    """How the candidate is drawn, given what the stages have done already."""
    temperature, tempered = parts.sampling.temperature, parts.policy.tempered
    if isinstance(temperature, TemperatureSchedule):
        return Sample(vocabulary, 1.0) if tempered else SampleAt(vocabulary)
    if temperature == 0:
        return Greedy(vocabulary)
    return Sample(vocabulary, 1.0 if tempered else temperature)


def _titled(op: Callable[..., Any]) -> str:
    return op.__name__ if isroutine(op) else repr(op)


def _settling(parts: Wiring) -> list[Node]:
    """From what the policy chose to the next canvas: legality, progress, what open slots hold."""
    spec, policy = parts.denoiser.spec, parts.policy
    blank = step.RandomIds(spec.vocab_size or 0) if spec.mask_id is None else step.MaskIds(spec.mask_id)
    rule = step.all_at_last if policy.drafts else step.legal if policy.progresses else step.at_least_one
    settle = step.redraft if policy.drafts else step.resettle if policy.revokes else step.settle
    close = step.reclose if policy.revokes else step.close
    return [
        node(rule, rule.__name__, writes=("committed",)),
        *[node(step.bounded, "bounded", writes=("reopened",))] * policy.revokes,
        *[node(blank, "blanks", writes=("blank",), title=repr(blank))] * (policy.revokes or policy.drafts),
        node(settle, "settle", writes=("next_canvas",), title="settle"),
        node(close, "close", writes=("next_open_slots",), title="close"),
    ]
