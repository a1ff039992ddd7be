"""State across steps: previous values, own columns, reopened slots. Each proven by a policy held to the laws."""

from typing import Annotated, ClassVar, NamedTuple, final

import pytest
import torch
from torch import Tensor

import fdllm
from fdllm.policies.base import UnmaskingPolicy
from fdllm.testing import check_decoding, check_policy, random_model
from fdllm.types import Count, Entropy, Fraction, Mask, Port, Probability, StepCount, Tokens, Uniform

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
