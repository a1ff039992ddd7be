"""Every way to wire a step wrongly is an error that names both ends."""

from typing import Annotated, ClassVar, NamedTuple, final

import pytest
import torch
from torch import Tensor

import fdllm
from fdllm.caches.base import CachePolicy, Rows
from fdllm.compiler import UnsoundError
from fdllm.graph import Graph, PortError, check, emit, node, source
from fdllm.policies.base import UnmaskingPolicy
from fdllm.testing import random_model
from fdllm.types import Count, Entropy, Mask, Port, Probability


def compiled(policy, **also):
    return fdllm.compile(random_model(), policy=policy, max_new_tokens=4, **also)


def refused(policy, message, kind=PortError, **also):
    with pytest.raises(kind, match=message):
        compiled(policy, **also)


@final
class Misspelt(UnmaskingPolicy):
    def __call__(self, masked: Mask, confidnce: Probability) -> Mask:
        return masked & (confidnce > 0.5)


@final
class WrongUnit(UnmaskingPolicy):
    def __call__(self, masked: Mask, entropy: Probability) -> Mask:
        return masked & (entropy > 0.5)


@final
class NoPort(UnmaskingPolicy):
    def __call__(self, masked: Mask, confidence: Tensor) -> Mask:
        return masked & (confidence > 0.5)


@final
class Unplanned(UnmaskingPolicy):
    def __call__(self, masked: Mask, quota: Count) -> Mask:
        return masked & (quota > 0)


class TwoFields(NamedTuple):
    commit: Mask
    entropy: Entropy


@final
class TwoWriters(UnmaskingPolicy):
    columns: ClassVar = {"candidate": 0}

    def __call__(self, masked: Mask, candidate: Annotated[Tensor, Port("B W", "int64", "token id")]) -> Mask:
        return masked


@final
class Undeclared(UnmaskingPolicy):
    def __call__(self, masked: Mask, entropy: Entropy) -> TwoFields:
        return TwoFields(masked, entropy)


@final
class ReadsWindow(UnmaskingPolicy):
    reads: ClassVar = "window"

    def __call__(self, masked: Mask, current_probability: Probability) -> Mask:
        return masked & (current_probability >= 0)


class Both(NamedTuple):
    commit: Mask
    reopen: Mask


@final
class Revokes(UnmaskingPolicy):
    revokes: ClassVar = True

    def __call__(self, masked: Mask) -> Both:
        return Both(masked, ~masked)


@final
class OpenOnly(CachePolicy):
    fresh: ClassVar = "open"

    def rows(self, step) -> Rows:
        return Rows(step.open_slots)


@final
class Frozen(CachePolicy):
    freezes: ClassVar = True

    def rows(self, step) -> Rows:
        return Rows(range(step.start, step.length))


@final
class FrozenBlock(CachePolicy):
    freezes: ClassVar = True
    patterns: ClassVar = ("block-causal",)

    def rows(self, step) -> Rows:
        return Rows(range(step.start, step.end))


@final
class NoRows(CachePolicy):
    def rows(self, step):
        return range(step.length)


@final
class Outside(CachePolicy):
    def rows(self, step) -> Rows:
        return Rows((*range(step.length), step.length))


@final
class TakesAnOperation(UnmaskingPolicy):
    columns: ClassVar = {"forward": 0}

    def __call__(self, masked: Mask, forward: Probability) -> "Held":
        return Held(masked, forward)


class Held(NamedTuple):
    commit: Mask
    forward: Probability


def test_a_misspelt_value_names_reader_and_nearest():
    refused(Misspelt(), r"Misspelt\(\) reads 'confidnce'.*nothing writes it; did you mean 'confidence'\?")


def test_a_wrong_unit_names_both_ends():
    refused(WrongUnit(), r"WrongUnit\(\) reads 'entropy' as float\[B W\] probability, but signal entropy writes .*nat")


def test_a_parameter_without_a_port():
    refused(NoPort(), r"NoPort\(\): parameter 'confidence' has no port; annotate it with an alias")


def test_a_quota_without_a_plan():
    refused(Unplanned(), r"Unplanned\(\) reads 'quota' .* nothing writes it")


def test_undeclared_results_are_refused():
    refused(Undeclared(), r"Undeclared\(\) returns commit, entropy; wanted commit")


def test_a_column_that_takes_an_engine_name():
    refused(TwoWriters(), r"returns commit; wanted candidate, commit")


def test_two_writers_are_named():
    def one(masked: Mask) -> Mask:
        return masked

    graph = Graph(
        {"masked": Port("B W", "bool")}, (node(one, "a", writes=("x",)), node(one, "b", writes=("x",))), ("x",)
    )
    with pytest.raises(PortError, match="a and b both write 'x'; rename one of them"):
        check(graph)


def test_writing_what_the_engine_gives():
    def one(masked: Mask) -> Mask:
        return masked

    graph = Graph({"masked": Port("B W", "bool")}, (node(one, "a", writes=("masked",)),), ("masked",))
    with pytest.raises(PortError, match="a writes 'masked', which the engine gives"):
        check(graph)


def test_a_cycle_is_shown():
    def forth(back: Mask) -> Mask:
        return back

    def back(forth: Mask) -> Mask:
        return forth

    graph = Graph({}, (node(forth, "f", writes=("forth",)), node(back, "g", writes=("back",))), ("forth",))
    with pytest.raises(PortError, match="these wait for one another: .* -> .*"):
        check(graph)


def test_reading_filled_slots_over_a_cache_that_skips_them():
    refused(
        ReadsWindow(),
        "reads filled slots of the window, but OpenOnly.*use cache 'dual'",
        UnsoundError,
        cache=OpenOnly(),
    )


def test_revoking_over_a_frozen_cache():
    refused(Revokes(), "reopens slots, but Frozen.*use cache 'dual'", UnsoundError, cache=Frozen())
    refused(Revokes(), "reads filled slots of the window, but OpenOnly", UnsoundError, cache=OpenOnly())
    with pytest.raises(UnsoundError, match="reopens slots, but FrozenBlock.*use cache 'block-causal' or 'none'"):
        fdllm.compile(random_model(pattern="block-causal"), policy=Revokes(), cache=FrozenBlock())


@pytest.mark.parametrize(
    ("cache", "message"),
    [(NoRows(), "returned range, wanted Rows"), (Outside(), r"must name ascending slots in \[0, 5\)")],
)
def test_a_cache_that_answers_wrongly(cache, message):
    with pytest.raises(UnsoundError, match=message):
        compiled("threshold", cache=cache).generate([[1]])


def test_a_value_that_takes_the_name_of_an_operation():
    refused(TakesAnOperation(), "'forward' names a value and an operation of the step; rename the value")


def test_a_cache_for_another_attention_pattern():
    model = random_model()
    spec = model.spec.model_copy(update={"pattern": "block-causal"})
    from fdllm.models.backbone import BackboneDenoiser

    with pytest.raises(
        UnsoundError, match="Dual.. is meant for full attention, but .* is block-causal; use cache 'none'"
    ):
        fdllm.compile(BackboneDenoiser(model.module, spec), cache="dual")


def test_a_function_keeps_no_store():
    spec = fdllm.Spec(mask_id=3, eos_ids=(1,))
    with pytest.raises(UnsoundError, match="keeps K/V, but <lambda> has no K/V store; use cache 'none'"):
        fdllm.compile(lambda ids: torch.zeros(*ids.shape, 8), spec=spec, cache="dual")


def test_nothing_unread_is_computed():
    graph = compiled("threshold").compiled.programs["full"].graph
    values = {value for each in graph.nodes for value in each.writes}
    engine = {"masked", "hidden", "candidate", "commit", "committed", "next_canvas", "next_open_slots"}
    assert values == engine | {"confidence"}
    for order, signal in (("margin", "margin"), ("entropy", "entropy"), ("random", "uniform")):
        graph = compiled({"name": "top-k", "order": order}).compiled.programs["full"].graph
        values = {value for each in graph.nodes for value in each.writes}
        assert values & {"confidence", "margin", "entropy", "uniform", "current_probability"} == {signal}


def test_the_head_runs_on_the_window_alone():
    out = compiled({"name": "top-k"}, cache="dual", block_length=2, stop_at_eos=False).generate([[1, 2, 3], [4, 5, 6]])
    assert out.nfe == 4
    assert out.stats.head_rows == 4 * 2 * 2
    assert out.stats.rows == 2 * (7 + 2 + 7 + 2)
    assert dict(out.stats.forwards) == {"refresh": 2, "reuse": 2}


def test_the_emitted_program_is_flat_python():
    decoder = compiled("threshold", cache="dual")
    text = decoder.compiled.programs["reuse"].source
    assert text.startswith("def reuse_step(canvas, open_slots, window, feed, store):\n")
    assert "    candidate, confidence = head_statistics(hidden)\n" in text
    compile(text, "<test>", "exec")
    assert text in decoder.explain(source=True)
    assert text not in decoder.explain()


def test_emit_runs_what_source_says():
    def double(masked: Mask) -> Mask:
        return ~masked

    graph = Graph({"masked": Port("B W", "bool")}, (node(double, "flip", writes=("flipped",)),), ("flipped", "masked"))
    assert source(graph, "f") == "def f(masked):\n    flipped = flip(masked)\n    return flipped, masked,\n"
    flipped, masked = emit(graph, "f")(torch.tensor([[True]]))
    assert not flipped.item()
    assert masked.item()
