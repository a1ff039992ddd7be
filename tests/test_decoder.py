"""What a user of a decoder relies on, over real tiny models."""

import subprocess
import sys
import time
import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fdllm
from fdllm.agenda import agenda
from fdllm.component import SettingError
from fdllm.decoder import SHADE
from fdllm.policies.threshold import Threshold
from fdllm.prompts import PromptError
from fdllm.schedules.blocks import Blocks
from fdllm.testing import EOS_ID, MASK_ID, VOCABULARY, few, random_model, tasks

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [10, 11]]


def decoder(model=None, **how):
    how = {"max_new_tokens": 10, "block_length": 4, "cache": "dual", **how}
    return fdllm.compile(model or random_model(), **how)


def padded(prompts, side):
    width = max(map(len, prompts))
    pad = [[0] * (width - len(p)) for p in prompts]
    ids = [z + p if side == "left" else p + z for p, z in zip(prompts, pad, strict=True)]
    mask = [
        [0] * len(z) + [1] * len(p) if side == "left" else [1] * len(p) + [0] * len(z)
        for p, z in zip(prompts, pad, strict=True)
    ]
    return torch.tensor(ids), torch.tensor(mask)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_padding_does_not_matter(side, cache):
    made = decoder(cache=cache)
    ids, mask = padded(PROMPTS, side)
    assert torch.equal(made.generate(ids, attention_mask=mask).tokens, made.generate(PROMPTS).tokens)


@few
@given(tasks(), st.integers(0, 99), st.sampled_from(["none", "prefix", "dual", "refresh-interval"]), st.randoms())
def test_a_sample_depends_on_seed_and_row_id_alone(task, seed, cache, random):
    model, prompts, num_new, block = task
    made = fdllm.compile(model, cache=cache, temperature=1.0, top_p=0.9, max_new_tokens=num_new, block_length=block)
    out = made.generate(prompts, seed=seed)
    order = random.sample(range(len(prompts)), len(prompts))
    shuffled = made.generate([prompts[i] for i in order], seed=seed, row_ids=order)
    assert torch.equal(shuffled.tokens, out.tokens[order])
    assert torch.equal(made.generate([prompts[0]], seed=seed).tokens[0], out.tokens[0])


def test_seeds_and_rows_differ():
    made = decoder(temperature=1.5, stop_at_eos=False, max_new_tokens=16)
    one, other = made.generate([[1, 2]] * 2, seed=1), made.generate([[1, 2]] * 2, seed=2)
    assert not torch.equal(one.tokens, other.tokens)
    assert not torch.equal(one.tokens[0], one.tokens[1])


@few
@given(tasks(), st.floats(0, 1), st.sampled_from(["none", "prefix", "dual"]))
def test_stopping_at_eos_is_lossless(task, threshold, cache):
    model, prompts, num_new, block = task
    how = {
        "cache": cache,
        "policy": {"name": "threshold", "threshold": threshold},
        "max_new_tokens": num_new,
        "block_length": block,
    }
    stopped = fdllm.compile(model, **how).generate(prompts)
    whole = fdllm.compile(model, stop_at_eos=False, **how).generate(prompts)
    assert stopped.completions == whole.completions
    assert stopped.nfe <= whole.nfe
    for row, completion in zip(stopped.tokens.tolist(), stopped.completions, strict=True):
        assert set(row[len(completion) :]) <= {EOS_ID}


def test_block_causal_prefills_and_commits_without_forwards_of_their_own():
    model = random_model(pattern="block-causal")
    how = {"policy": {"name": "top-k", "k": 2}, "max_new_tokens": 10, "block_length": 4, "stop_at_eos": False}
    out = fdllm.compile(model, cache="block-causal", **how).generate([[1, 2, 3, 4, 5, 6]], trace=True)
    assert [list(move.window) for move in out.trace] == [[0, 1], *[[2, 3, 4, 5]] * 2, *[[6, 7, 8, 9]] * 2]
    computed = [(move.computed.start, move.computed.stop) for move in out.trace]
    assert computed == [(0, 8), (4, 12), (8, 12), (8, 16), (12, 16)]
    assert torch.equal(out.tokens, fdllm.compile(model, cache="none", **how).generate([[1, 2, 3, 4, 5, 6]]).tokens)


def test_windows_across_blocks_of_the_model_are_refused():
    model = random_model(pattern="block-causal")
    with pytest.raises(ValueError, match="its windows cross the model's blocks of 4 slots; give a schedule.block_len"):
        fdllm.compile(model, block_length=8, max_new_tokens=16)
    with pytest.raises(ValueError, match="Dual.. is meant for full attention"):
        fdllm.compile(model, cache="dual")


def test_a_row_that_is_done_leaves_the_batch():
    model = random_model()
    spec = model.spec.model_copy(update={"eos_ids": tuple(range(20))})
    from fdllm.models.backbone import BackboneDenoiser

    made = decoder(BackboneDenoiser(model.module, spec), max_new_tokens=32, cache="none")
    out = made.generate(PROMPTS, trace=True)
    first_steps = [move for move in out.trace if move.forward == 0]
    last_steps = [move for move in out.trace if move.forward == out.nfe - 1]
    assert len(first_steps) == 4
    assert len(last_steps) < 4


def test_the_last_event_is_the_result():
    made = decoder(stop_at_eos=False)
    out = made.generate([PROMPTS[0]])
    events = list(made.stream(PROMPTS[0]))
    assert torch.equal(events[-1].tokens, out.tokens[0])
    assert events[-1].done
    assert events[-1].generation.nfe == out.nfe == len(events) - 1
    opens = [int(event.open.sum()) for event in events]
    assert opens == sorted(opens, reverse=True)
    assert opens[-1] == 0
    for before, after in zip(events, events[1:], strict=False):
        settled = ~before.open
        assert torch.equal(before.tokens[settled], after.tokens[settled])
        newly = before.open & ~after.open
        assert torch.equal(after.provisional[newly], after.tokens[newly])


def test_an_event_shows_candidates_in_the_window_and_shade_behind_it():
    model = fdllm.load("tiny")
    made = fdllm.compile(model, policy="top-k", max_new_tokens=24, block_length=8)
    first, *_ = made.stream("Question: Ben has 12 plums.\nAnswer:")
    inside = model.tokenizer.decode(first.provisional[:8].tolist(), skip_special_tokens=True)
    assert first.provisional_text == inside + SHADE * 16
    assert first.text.count(SHADE) == 23


def test_stream_takes_one_prompt():
    with pytest.raises(ValueError, match="takes one prompt, got 2"):
        decoder().stream([[1], [2]])


def test_the_trace_tells_the_whole_run():
    made = decoder(stop_at_eos=False)
    out = made.generate(PROMPTS, trace=True)
    tokens = torch.full_like(out.tokens, MASK_ID)
    for move in out.trace:
        chances = dict(zip(move.window, zip(move.candidates, move.confidence, strict=True), strict=True))
        for slot in move.committed:
            tokens[move.row, slot] = chances[slot][0]
            assert 0 <= chances[slot][1] <= 1
    assert torch.equal(tokens, out.tokens)
    assert made.generate(PROMPTS).trace is None


def test_the_prompt_may_hold_the_mask_id():
    out = decoder().generate([[1, MASK_ID, 2]])
    assert not (out.tokens == MASK_ID).any()


def test_prompts_in_every_form():
    made = decoder()
    expected = made.generate([[1, 2, 3]]).tokens
    for form in (torch.tensor([[1, 2, 3]]), torch.tensor([1, 2, 3]), [1, 2, 3], ((1, 2, 3),)):
        assert torch.equal(made.generate(form).tokens, expected)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[]], r"prompts\[0\]: is empty"),
        ([], "there are none"),
        ([[1], [2, VOCABULARY]], r"prompts\[1\]: ids \[40\] are outside the vocabulary"),
        ([[-1]], r"ids \[-1\] are outside"),
        ([[1] * 250], r"250 ids and max_new_tokens = 10 make 260 slots, over the model's context of 256; shorten"),
        ("text", "has no tokenizer"),
        (torch.zeros(2, 2), "wanted integer ids"),
        (torch.zeros(2, 0, dtype=torch.int64), r"prompts\[0\]: is empty"),
        ([[1, "a"]], "wanted a list of ids"),
        ([[{"role": "user", "content": "x"}], "y"], r"prompts\[1\]: wanted a conversation like the others, got 'y'"),
        (["y", [1]], r"prompts\[1\]: wanted text like the others, got \[1\]"),
        ([[1], [{"role": "user", "content": "x"}]], r"prompts\[1\]: wanted a list of ids like the others, got \[{"),
        ([1, "a"], r"prompts\[0\]: wanted a list of ids like the others, got 1"),
        (3, "wanted text, texts, ids, lists of ids, a conversation or several, got int"),
    ],
)
def test_bad_prompts(prompts, message):
    with pytest.raises(PromptError, match=message):
        decoder().generate(prompts)


def test_a_plan_of_many_slots_lists_none_of_them():
    tracemalloc.start()
    way = agenda(Blocks(block_length=10**6), Threshold(), fdllm.Spec(mask_id=1), 1, 10**6)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert way.windows == (range(10**6),) and peak < 10**5


def test_a_hole_in_an_attention_mask_is_refused():
    mask = torch.tensor([[0, 1, 1], [1, 0, 1]])
    with pytest.raises(PromptError, match=r"attention_mask\[1\]: has a hole; padding stands before or behind"):
        decoder().generate(torch.tensor([[1, 2, 3], [4, 5, 6]]), attention_mask=mask)


def test_a_text_that_no_tokenizer_takes_is_refused():
    with pytest.raises(PromptError, match=r"prompts\[1\]: is no valid text \(UTF-8, no lone surrogates\)"):
        fdllm.compile(fdllm.load("tiny"), max_new_tokens=8).generate(["a", "\ud800"])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: wanted a whole number of at least 1, got 0"),
        ({"temperature": -1.0}, "temperature: wanted 0, a number from 0.001 to 1000, or a schedule, got -1.0"),
        ({"temperature": 1e-40}, "temperature: wanted 0, a number from 0.001 to 1000, or a schedule, got 1e-40"),
        ({"temperature": {"name": "linear", "end": 1e-40}}, "temperature.end: .* greater than or equal to 0.001"),
        ({"max_new_tokens": 10**11}, "max_new_tokens: 100000000000 slots are over the model's context of 256; lower"),
        ({"top_p": 1.5}, r"top_p: wanted a number in \(0, 1\]"),
        ({"top_k": 0}, "top_k: wanted a whole number"),
        ({"stop_at_eos": "no"}, "stop_at_eos: wanted true or false, got 'no'"),
        ({"policy": {"name": "factor", "factor": float("inf")}}, "policy.factor: .*finite number"),
        ({"policy": "treshold"}, "no policy named 'treshold'; did you mean 'threshold'"),
        ({"policy": {"name": "threshold", "treshold": 1}}, "policy.treshold: no such key; did you mean 'threshold'"),
        ({"policy": {"name": "threshold", "threshold": 2.0}}, "policy.threshold: .*less than or equal to 1, got 2.0"),
        ({"policy": {"name": "threshold", "threshold": "0.9"}}, "policy.threshold: .*valid number"),
        ({"policy": {"name": "top-k", "k": 2, "steps": 4}}, "k and steps exclude each other"),
        ({"policy": {"name": "top-k", "eps": 0.1}}, "eps shape the steps of a block: give steps"),
        ({"policy": {"name": "top-k", "steps": 4}}, "policy.steps: 4 steps do not spread over 3 blocks"),
        ({"policy": 3}, "policy: wanted a name, a table with 'name'"),
        ({"cache": "dula"}, "no cache named 'dula'; did you mean 'dual'"),
        ({"block_length": 0}, "block_length: .*greater than or equal to 1"),
        ({"schedule": {"name": "blocks", "block_length": 2}}, "differs from schedule.block_length"),
    ],
)
def test_bad_settings(how, message):
    with pytest.raises(ValueError, match=message):
        decoder(**how)


def test_a_foreign_model_needs_a_spec():
    with pytest.raises(SettingError, match="spec: a foreign model needs one"):
        fdllm.compile(lambda ids: ids)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"seed": 1.5}, "seed: wanted a whole number, got 1.5"),
        ({"row_ids": ["a"]}, "row_ids: wanted a whole number per prompt"),
        ({"row_ids": [1, 2]}, "row_ids: wanted a whole number per prompt"),
        ({"row_ids": [2**64]}, r"row_ids: wanted a whole number per prompt \(1\), in 64 bits"),
        ({"attention_mask": torch.ones(1, 3)}, "attention_mask: goes with a tensor of ids"),
    ],
)
def test_bad_arguments_of_generate(how, message):
    with pytest.raises(PromptError, match=message):
        decoder().generate([[1, 2]], **how)


@pytest.mark.parametrize("mask", [torch.ones(3), torch.tensor(1), [[1, 1]]])
def test_a_mask_of_another_shape(mask):
    with pytest.raises(PromptError, match=r"attention_mask: wanted a tensor of the shape of the ids \(1, 2\)"):
        decoder().generate(torch.tensor([[1, 2]]), attention_mask=mask)


def test_settings_can_be_changed_one_at_a_time():
    from fdllm.policies.topk import TopK

    assert TopK(steps=4).with_settings(order="margin") == TopK(steps=4, order="margin")
    with pytest.raises(ValueError, match="exclude each other"):
        TopK(steps=4).with_settings(k=2)


def test_building_is_quick():
    model = random_model()
    decoder(model)
    begun = time.perf_counter()
    for _ in range(5):
        decoder(model)
    assert (time.perf_counter() - begun) / 5 < 0.05


def test_importing_fdllm_is_light():
    code = "import sys, fdllm, fdllm.attention.triton; print({'transformers', 'triton', 'hypothesis'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_record_names_everything():
    record = decoder(policy={"name": "factor", "factor": 0.5}).record()
    assert record["policy"] == "Factor(factor=0.5, as_released=False)"
    assert {"model", "cache", "schedule", "attention", "sampling", "device", "dtype", "torch", "fdllm"} <= set(record)
