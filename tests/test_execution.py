"""Executions give the tokens of eager; what is recorded is replayed, and what cannot run is refused."""

from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

import fdllm
from fdllm.component import SettingError
from fdllm.execution.base import ExecutionError
from fdllm.execution.compiled import Compiled
from fdllm.execution.static import Static
from fdllm.loop import ProgressError
from fdllm.models.backbone import BackboneDenoiser
from fdllm.models.spec import Spec
from fdllm.testing import EOS_ID, MASK_ID, VOCABULARY, check_execution, random_model

PROMPTS = [[1, 2, 3], [4, 5], [6, 7, 8, 9, 10]]
PAIRS = [
    ("none", "threshold"),
    ("none", "renoise"),
    ("prefix", "threshold"),
    ("prefix", "factor"),
    ("dual", "threshold"),
    ("dual", {"name": "top-k", "k": 2}),
    ("dual", {"name": "renoise", "steps": 5, "entropy_bound": 2.0}),
    ("refresh-interval", {"name": "top-k", "order": "random"}),
]


def decoder(model=None, **how):
    how = {"max_new_tokens": 24, "block_length": 6, "cache": "dual", "stop_at_eos": False, **how}
    return fdllm.compile(model or random_model(), **how)


@pytest.mark.parametrize(("cache", "policy"), PAIRS, ids=str)
def test_static(cache, policy):
    check_execution("static", cache=cache, policy=policy)


@pytest.mark.parametrize("pattern", ["block-causal", "causal-prefix"])
@pytest.mark.parametrize("cache", ["none", "block-causal"])
def test_static_of_other_patterns(cache, pattern):
    check_execution("static", (pattern,), cache=cache, policy="threshold")


@pytest.mark.parametrize("cache", ["dual", "prefix"])
def test_static_with_interpreted_kernels(cache):
    how = {"cache": cache, "attention": "triton", "kernels": "triton", "max_new_tokens": 12, "temperature": 1.0}
    tokens = [decoder(execution=name, **how).generate(PROMPTS[:2]).tokens for name in ("eager", "static")]
    assert torch.equal(*tokens)


@pytest.mark.parametrize("forgotten", ["slots", "window", "numbers"])
def test_a_buffer_that_is_not_refilled_is_found(monkeypatch, forgotten):
    whole = Static._told

    def only_once(self, name, value):
        key, buffer = self._buffer(name, value)
        return buffer if name == forgotten and key in self._source else whole(self, name, value)

    monkeypatch.setattr(Static, "_told", only_once)
    finds_out()


def test_a_host_number_in_a_record_is_found(monkeypatch):
    whole = Static._fill

    def with_spans(self, given):
        held = whole(self, given)
        return replace(held, feed=replace(held.feed, span=given.feed.span))

    monkeypatch.setattr(Static, "_fill", with_spans)
    finds_out()


def finds_out():
    """The comparison that the law makes fails on one task, or the decode does."""
    how = {"policy": {"name": "top-k", "k": 1, "order": "random"}, "temperature": 1.0, "stop_at_eos": True}
    expected = decoder(**how).generate([[1, 2, 3]], seed=5).tokens
    try:
        got = decoder(execution="static", **how).generate([[1, 2, 3]], seed=5).tokens
    except ProgressError:
        return
    assert not torch.equal(got, expected)


def test_one_record_serves_every_block_of_a_phase():
    made = decoder(policy={"name": "top-k", "k": 1}, execution="static")
    out = made.generate([[1, 2, 3]])
    # of each phase the first turn warms up and the second is recorded
    assert dict(out.stats.forwards) == {"refresh": 4, "reuse": 20}
    assert out.stats.replays == 2 + 18
    assert made.generate([[4, 5, 6]]).stats.replays == out.nfe, "a second run of the same shape records nothing"


def test_prefix_has_a_record_for_each_block():
    out = decoder(policy={"name": "top-k", "k": 1}, cache="prefix", execution="static").generate([[1, 2, 3]])
    assert out.stats.replays == (4 - 2) + 4 * (5 - 2)


def test_runs_that_take_turns_share_nothing():
    made = decoder(execution="static", temperature=1.0)
    expected = [made.generate([prompt], seed=1).tokens[0] for prompt in PROMPTS[:2] * 2]
    streams = [made.stream(prompt, seed=1) for prompt in PROMPTS[:2] * 2]
    last = [None] * len(streams)
    for _ in range(25):
        last = [next(stream, before) for stream, before in zip(streams, last, strict=True)]
    assert all(torch.equal(event.tokens, tokens) for event, tokens in zip(last, expected, strict=True))


def test_what_reads_the_device_cannot_be_recorded():
    def peeks(ids):
        return torch.nn.functional.one_hot(ids * int(ids.max() > 0), VOCABULARY).float()

    spec = Spec(mask_id=MASK_ID, eos_ids=(EOS_ID,), vocab_size=VOCABULARY)
    made = fdllm.compile(peeks, spec=spec, max_new_tokens=8, block_length=4, execution="static")
    with pytest.raises(ExecutionError, match="cannot be recorded: aten::.* reads the device, or copies from the host"):
        made.generate([[1, 2]])


@pytest.mark.slow
@pytest.mark.parametrize(("cache", "pattern"), [("prefix", "full"), ("block-causal", "block-causal")])
def test_compile_recompiles_a_bounded_number_of_times(cache, pattern):
    model, how = random_model(pattern=pattern), {"cache": cache, "max_new_tokens": 20, "block_length": 4}
    expected, made = decoder(model, **how), decoder(model, execution="compile", **how)
    # the front end and its guards, without the minutes of a C++ compiler
    execution = Compiled(made._loop.turn, backend="aot_eager")
    made._idle.append(execution)
    counters.clear()
    seen = []
    for prompts in [PROMPTS[:1], [[1, 2, 3, 4]], [[5] * 9], PROMPTS[1:]] * 2:
        assert torch.equal(made.generate(prompts).tokens, expected.generate(prompts).tokens)
        seen.append(counters["stats"]["unique_graphs"])
    assert not counters["graph_break"]
    # of a function: a first size of canvas and of rows, then any; few rows, and more than twice the window
    assert 0 < seen[-1] <= 5 * len(execution._made)
    assert seen[3] == seen[-1], "what was met before is compiled again"


@pytest.mark.slow
def test_compile_by_inductor():
    how = {"max_new_tokens": 12, "block_length": 4}
    made = decoder(execution="compile", **how)
    for prompts in ([[1, 2, 3]], [[4, 5, 6, 7]]):
        assert torch.equal(made.generate(prompts).tokens, decoder(**how).generate(prompts).tokens)


def test_a_plan_of_known_quotas_needs_no_read():
    how = {"policy": {"name": "top-k", "k": 2}, "cache": "dual"}
    counted = decoder(**how).generate(PROMPTS)
    asked = decoder(**{**how, "stop_at_eos": True}).generate(PROMPTS)
    assert counted.stats.reads == 0
    assert asked.stats.reads == asked.nfe
    for row, completion in zip(counted.completions, asked.completions, strict=True):
        assert row[: len(completion)] == completion
    by_threshold = decoder(policy="threshold").generate(PROMPTS)
    assert by_threshold.stats.reads == by_threshold.nfe


def test_names_and_devices_are_checked():
    with pytest.raises(SettingError, match="execution: wanted one of auto, eager, .*, got 'fast'"):
        decoder(execution="fast")
    with pytest.raises(ExecutionError, match="'cudagraph' wants a CUDA device, but the model is on cpu; use 'eager'"):
        decoder(execution="cudagraph")
    shared = BackboneDenoiser(random_model().module, random_model().spec)
    shared.tp = 2
    with pytest.raises(ExecutionError, match="'static' wants a model that one process has alone, but 2 share it"):
        decoder(shared, execution="static")
    assert decoder(shared).execution == "eager"
    assert decoder().record()["execution"] == "eager (auto)"
    assert "execution: static" in decoder(execution="static").explain()
