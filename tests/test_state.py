"""State across steps: previous values, own columns, reopened slots. Each proven by a policy held to the laws."""

from typing import Annotated, ClassVar, NamedTuple, final

import pytest
import torch
from torch import Tensor

import fdllm
from fdllm.cli.job import Job
from fdllm.cli.prompts import Prompt
from fdllm.graph import PortError
from fdllm.loop import ProgressError
from fdllm.policies.base import UnmaskingPolicy
from fdllm.ranking import ranks
from fdllm.testing import check_decoding, check_policy, random_model
from fdllm.types import (
    CanvasTokens,
    Count,
    Entropy,
    Fraction,
    Logits,
    Mask,
    Port,
    Probability,
    StepCount,
    Tokens,
    Uniform,
)

Age = Annotated[Tensor, Port("B W", "int64", "step")]
Best = Annotated[Tensor, Port("B 1", "float", "probability")]


@final
class Stable(UnmaskingPolicy):
    """Commit slots whose candidate is the one of the step before."""

    def __call__(self, masked: Mask, candidate: Tokens, previous_candidate: Tokens) -> Mask:
        return masked & (candidate == previous_candidate)


@final
class Rising(UnmaskingPolicy):
    """Commit slots whose confidence rose since the step before; NaN at first compares as False."""

    def __call__(self, masked: Mask, confidence: Probability, previous_confidence: Probability) -> Mask:
        return masked & (confidence > previous_confidence)


class Aged(NamedTuple):
    commit: Mask
    age: Age


@final
class Patient(UnmaskingPolicy):
    """Commit slots that were confident for `patience` steps in a row, counted in an own column."""

    columns: ClassVar = {"age": 0}
    patience: int = 2

    def __call__(self, masked: Mask, confidence: Probability, age: Age) -> Aged:
        age = torch.where(confidence > 0.3, age + 1, 0)
        return Aged(masked & (age >= self.patience), age)


class Scored(NamedTuple):
    commit: Mask
    best: Best


@final
class Record(UnmaskingPolicy):
    """Commit slots that beat the best confidence the row has seen in this block, kept in a row column."""

    columns: ClassVar = {"best": 0.0}

    def __call__(self, masked: Mask, confidence: Probability, best: Best) -> Scored:
        chosen = masked & (confidence > best)
        top = confidence.masked_fill(~masked, 0).amax(-1, keepdim=True)
        return Scored(chosen, torch.maximum(best, top))


class Edit(NamedTuple):
    commit: Mask
    reopen: Mask


@final
class Doubtful(UnmaskingPolicy):
    """Commit generously, reopen what has become unlikely."""

    revokes: ClassVar = True
    reads: ClassVar = "window"

    def __call__(
        self, masked: Mask, confidence: Probability, current_probability: Probability, step: StepCount
    ) -> Edit:
        best = confidence.masked_fill(~masked, 0).amax(-1, keepdim=True)
        return Edit(masked & (confidence > 0.8 * best), ~masked & (current_probability < 0.3) & (step > 0))


@final
class Reader(UnmaskingPolicy):
    """Read every value there is, and let each have its say."""

    def __call__(
        self,
        masked: Mask,
        tokens: Tokens,
        candidate: Tokens,
        confidence: Probability,
        margin: Probability,
        entropy: Entropy,
        current_probability: Probability,
        previous_entropy: Entropy,
        previous_margin: Probability,
        uniform: Uniform,
        quota: Count,
        step: StepCount,
        steps: StepCount,
        progress: Fraction,
    ) -> Mask:
        score = confidence + margin + uniform - entropy / 4 - current_probability + (candidate % 3) / 8
        score = score + (previous_entropy - entropy).nan_to_num(0) + previous_margin.nan_to_num(0.1) + (tokens % 2) / 16
        return masked & (score > step / steps - progress) & (quota > 0)

    def quotas(self, num_open, num_blocks):
        return (2,) * (num_open // 2) + (1,) * (num_open % 2)


@pytest.mark.parametrize(
    "policy", [Reader(), Stable(), Rising(), Patient(), Patient(patience=4), Record(), Doubtful()], ids=repr
)
def test_laws(policy):
    check_policy(policy)


@pytest.mark.parametrize("policy", [Stable(), Patient(), Doubtful()], ids=repr)
def test_exact_over_a_cache_that_refreshes_always(policy):
    check_decoding(
        policy=policy, cache=fdllm.compile(random_model(), cache={"name": "refresh-interval", "interval": 1}).plan.cache
    )


def test_a_previous_value_makes_a_difference():
    decoder = fdllm.compile(random_model(), policy=Stable(), max_new_tokens=8, stop_at_eos=False)
    moves = decoder.generate([[1, 2, 3]], trace=True).trace
    for before, now in zip(moves, moves[1:], strict=False):
        same = [s for s, a, b in zip(now.window, before.candidates, now.candidates, strict=True) if a == b]
        assert set(now.committed) <= set(same) or len(now.committed) == 1
    assert any(len(move.committed) > 1 for move in moves)


def test_reopened_slots_are_decided_again():
    model = random_model(1)
    decoder = fdllm.compile(
        model, cache="dual", policy=Doubtful(), max_new_tokens=12, block_length=12, stop_at_eos=False
    )
    out = decoder.generate([[5, 6, 7]], trace=True)
    reopened = [(move.step, slot) for move in out.trace for slot in move.reopened]
    assert reopened, "the policy never reopened anything, so this shows nothing"
    for step, slot in reopened:
        assert any(slot in move.committed for move in out.trace if move.step > step)
    for move in out.trace:
        assert len(move.reopened) < len(move.committed)
    assert not (out.tokens == model.spec.mask_id).any()
    assert out.nfe <= 12


def test_a_job_decodes_apart_what_may_not_be_one_batch(tmp_path):
    model = random_model(pattern="block-causal")
    decoder = fdllm.compile(model, cache="block-causal", policy=Doubtful(), max_new_tokens=8, block_length=4)
    ids = [[1], [2, 3, 4, 5, 6], [7, 8], [9, 10, 11], [12, 13, 14]]
    prompts = [Prompt(f"in.jsonl:{i}", row) for i, row in enumerate(ids, 1)]
    jobs = [Job(decoder, prompts, ids, 0, batch_size, chat=False) for batch_size in (1, 4)]
    assert [len(lines) for lines, _ in jobs[1].batches()] == [2, 1, 2]
    for job in jobs:
        assert job.write(tmp_path / f"{job.batch_size}.jsonl")["rows"] == 5
    assert (tmp_path / "1.jsonl").read_text() == (tmp_path / "4.jsonl").read_text()


def test_a_policy_that_reads_filled_slots_refuses_windows_of_unequal_length():
    model = random_model(pattern="block-causal")
    decoder = fdllm.compile(model, cache="block-causal", policy=Doubtful(), max_new_tokens=8, block_length=4)
    assert decoder.generate([[1], [2, 3, 4, 5, 6]]).tokens.shape == (2, 8)
    with pytest.raises(ValueError, match=r"Doubtful\(\) reads filled slots of the window.*decode them apart"):
        decoder.generate([[1], [2, 3]])


def test_the_columns_are_in_the_program():
    decoder = fdllm.compile(random_model(), policy=Patient(), max_new_tokens=4)
    text = decoder.compiled.programs["full"].source
    assert "age = take_age(age_column, window)" in text
    assert "next_age_column = put_age(age_column, window, next_age)" in text


class Kept(NamedTuple):
    commit: Mask
    draft: Mask


@final
class Hesitant(UnmaskingPolicy):
    """Draft the two surest slots, and commit nothing by itself: the last step does."""

    drafts: ClassVar = True
    steps: int = 3

    def __call__(self, masked: Mask, confidence: Probability) -> Kept:
        return Kept(masked & (confidence > 2), masked & (ranks(masked, confidence) < 2))

    def num_steps(self, num_open, num_blocks):
        return self.steps


@pytest.mark.parametrize("noise", ["mask", "uniform"])
def test_drafts_stay_open_until_the_last_step(noise):
    model = random_model(2, noise=noise)
    decoder = fdllm.compile(model, policy=Hesitant(), max_new_tokens=8, block_length=4, stop_at_eos=False)
    out = decoder.generate([[1, 2, 3]], trace=True)
    assert [len(move.committed) for move in out.trace] == [0, 0, 4, 0, 0, 4]
    seen = [event.tokens for event in decoder.stream([1, 2, 3])]
    first = out.trace[0]
    kept = sorted(range(4), key=lambda i: -first.confidence[i])[:2]
    for i in range(4):
        blank = model.spec.mask_id if noise == "mask" else seen[0][i]
        assert seen[0][i] == (first.candidates[i] if i in kept else blank)
    check_policy(Hesitant())


def test_a_policy_that_drafts_must_bound_its_steps_and_not_revoke():
    class Endless(UnmaskingPolicy):
        drafts: ClassVar = True

        def __call__(self, masked: Mask) -> Kept:
            return Kept(masked, masked)

    class Both(Endless):
        revokes: ClassVar = True

    with pytest.raises(
        ValueError, match=r"Endless\(\) drafts, so its num_steps\(\) must bound the steps of a window; got"
    ):
        fdllm.compile(random_model(), policy=Endless())
    with pytest.raises(ValueError, match=r"Both\(\) drafts, so its num_steps"):
        fdllm.compile(random_model(), policy=Both())


def test_a_schedule_of_temperatures_is_told_the_step():
    model, how = random_model(1), {"max_new_tokens": 6, "block_length": 6, "stop_at_eos": False, "policy": "top-k"}
    cooling = fdllm.compile(model, temperature={"name": "linear", "start": 2.0, "end": 0.01}, **how)
    assert "temperature = anneal(step, steps)" in cooling.compiled.programs["full"].source
    first = [
        decoder.generate([[1, 2]], seed=5, trace=True).trace[0].candidates
        for decoder in (cooling, fdllm.compile(model, temperature=2.0, **how))
    ]
    assert first[0] == first[1]
    assert fdllm.compile(model, temperature="linear", **how).parts.sampling.temperature.start == 0.8
    with pytest.raises(ValueError, match=r"temperature.start: Input should be greater than or equal to 0.001, got 0"):
        fdllm.compile(model, temperature={"name": "linear", "start": 0.0}, **how)
    with pytest.raises(
        ValueError, match=r"top_p and top_k cut at the sampling temperature, which Linear\(start=0.8, end=0.4\) changes"
    ):
        fdllm.compile(model, temperature="linear", top_k=3, **how)


class Idle(UnmaskingPolicy):
    progresses: ClassVar = True

    def __call__(self, masked: Mask) -> Mask:
        return masked & False


def test_a_policy_that_breaks_its_word_ends_with_its_name():
    decoder = fdllm.compile(random_model(), policy=Idle(), max_new_tokens=4, block_length=2)
    with pytest.raises(ProgressError, match=r"Idle\(\): a window still has open slots after every step it was granted"):
        decoder.generate([[1, 2], [3]])


class Meddles(UnmaskingPolicy):
    """Commit whatever it likes, after opening every slot in what it was handed."""

    def __call__(self, masked: Mask, step: StepCount) -> Mask:
        chosen = masked & (step % 2 == 0)
        masked.fill_(True)
        return masked & (chosen | (step % 2 == 1))


def test_legality_does_not_hang_on_what_a_policy_does_to_its_inputs():
    decoder = fdllm.compile(random_model(), policy=Meddles(), max_new_tokens=6, block_length=6, stop_at_eos=False)
    decided = [slot for move in decoder.generate([[1, 2]], trace=True).trace for slot in move.committed]
    assert sorted(decided) == list(range(6))


class Narrow(UnmaskingPolicy):
    def __call__(self, masked: Mask) -> Mask:
        return masked[:, :1]


def test_a_choice_of_another_shape_is_refused():
    with pytest.raises(PortError, match=r"commit has shape \(1, 1\); wanted \(1, 4\), the shape of masked"):
        fdllm.compile(random_model(), policy=Narrow(), max_new_tokens=4).generate([[1, 2]])


class Backwards(UnmaskingPolicy):
    def __call__(self, masked: Mask, previous_canvas: CanvasTokens) -> Mask:
        return masked


class Drifting(UnmaskingPolicy):
    """Commit the slots whose likeliest id leads by more than a step ago, from the logits themselves."""

    def __call__(self, masked: Mask, logits: Logits, previous_logits: Logits) -> Mask:
        if previous_logits.numel() == 0:
            return masked & False
        return masked & (logits.amax(-1) > previous_logits.amax(-1))


def test_what_cannot_be_carried_is_refused_and_logits_can():
    message = r"'previous_canvas' would carry int64\[B N\] token id from step to step; wanted one of the dims B W"
    with pytest.raises(PortError, match=message):
        fdllm.compile(random_model(), policy=Backwards())
    check_decoding(policy=Drifting())


@final
class Planned(UnmaskingPolicy):
    """Plan what the setting says, whatever the window."""

    plan: tuple[int, ...] = ()

    def __call__(self, masked: Mask, quota: Count) -> Mask:
        return masked & (quota > 0)

    def quotas(self, num_open: int, num_blocks: int) -> tuple[int, ...]:
        return self.plan


@pytest.mark.parametrize("plan", [(), (0, 0), (-1, 5), (2, 3)])
def test_a_plan_that_does_not_fill_its_window_is_refused(plan):
    with pytest.raises(ValueError, match=r"Planned\(plan=.*\): quotas\(\) must sum to the 4 open slots, none below 0"):
        fdllm.compile(random_model(), policy=Planned(plan=plan), max_new_tokens=4)
    assert fdllm.compile(random_model(), policy=Planned(plan=(1, 3)), max_new_tokens=4).parts.planned
