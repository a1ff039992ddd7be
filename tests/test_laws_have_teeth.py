"""Tests of the tests: deliberately broken parts fail the laws, with a message that names the fault."""

from dataclasses import replace
from itertools import count
from typing import ClassVar, NamedTuple, final

import pytest
import torch

from fdllm.attention.base import AttentionBackend
from fdllm.caches.base import CachePolicy, Rows
from fdllm.policies.base import UnmaskingPolicy
from fdllm.ranking import best
from fdllm.schedules.base import Schedule
from fdllm.scorers.base import Scorer
from fdllm.tasks.base import Example, Task
from fdllm.testing import (
    check_attention,
    check_cache,
    check_pass,
    check_policy,
    check_schedule,
    check_scorer,
    check_task,
)
from fdllm.types import Count, Mask, Probability


def fails(check, part, message):
    with pytest.raises((AssertionError, ValueError, BaseExceptionGroup)) as caught:
        check(part)
    errors = caught.value.exceptions if isinstance(caught.value, BaseExceptionGroup) else [caught.value]
    assert any(message in str(error) for error in errors), errors


@final
class CommitsDecided(UnmaskingPolicy):
    def __call__(self, masked: Mask, confidence: Probability) -> Mask:
        return confidence > 0.5


@final
class NoProgress(UnmaskingPolicy):
    progresses: ClassVar = True

    def __call__(self, masked: Mask, confidence: Probability) -> Mask:
        return masked & (confidence > 0.9)


@final
class LessThanDue(UnmaskingPolicy):
    punctual: ClassVar = True

    def __call__(self, masked: Mask, confidence: Probability, quota: Count) -> Mask:
        return best(masked, confidence, quota // 2)


@final
class LooksAtNeighbours(UnmaskingPolicy):
    def __call__(self, masked: Mask, confidence: Probability) -> Mask:
        return masked & (confidence >= confidence.mean())


@final
class WritesInPlace(UnmaskingPolicy):
    def __call__(self, masked: Mask, confidence: Probability) -> Mask:
        confidence[~masked] = -1.0
        return masked & (confidence > 0.5)


@final
class HiddenState(UnmaskingPolicy):
    calls: ClassVar[list[int]] = []

    def __call__(self, masked: Mask) -> Mask:
        self.calls.append(1)
        return masked & (len(self.calls) % 2 == 0)


@final
class NotMonotone(UnmaskingPolicy):
    monotone: ClassVar = "threshold"
    threshold: float = 0.5

    def __call__(self, masked: Mask, confidence: Probability) -> Mask:
        return masked & (confidence <= self.threshold)


class Choice(NamedTuple):
    commit: Mask
    reopen: Mask


@final
class ReopensOpen(UnmaskingPolicy):
    revokes: ClassVar = True

    def __call__(self, masked: Mask) -> Choice:
        return Choice(masked, torch.ones_like(masked))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (CommitsDecided(), "a decided slot was committed again"),
        (NoProgress(), "a row made no progress"),
        (LessThanDue(), "commits are not the quota"),
        (LooksAtNeighbours(), "depends on the rows around it"),
        (WritesInPlace(), "a value it reads was changed"),
        (HiddenState(), "the same values gave another choice"),
        (NotMonotone(), "a larger threshold committed more slots"),
        (ReopensOpen(), "an open slot was reopened"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_broken_policies(policy, message):
    fails(check_policy, policy, message)


@final
class LeavesOutTheEnd(CachePolicy):
    def rows(self, step) -> Rows:
        return Rows(range(step.length) if step.index == 0 else range(step.start, step.end - 1))


@final
class CountsCalls(CachePolicy):
    calls: ClassVar[list[int]] = []

    def rows(self, step) -> Rows:
        self.calls.append(1)
        whole = len(self.calls) % 2 == 0
        return Rows(range(step.length) if whole else range(step.start, step.end))


def test_broken_caches():
    fails(check_cache, LeavesOutTheEnd(), "leaves out open slots")
    fails(check_cache, CountsCalls(), "the same step gave another answer")


@final
class NeverCommits(CachePolicy):
    """Block-causal without the forward that stores a block's last tokens."""

    exact: ClassVar = True
    patterns: ClassVar = ("block-causal",)

    def rows(self, step) -> Rows:
        begin = 0 if step.block == step.index == 0 else step.start // step.model_block * step.model_block
        return Rows(
            range(begin, min(step.start // step.model_block * step.model_block + step.model_block, step.length))
        )


def test_a_cache_that_only_calls_itself_exact():
    fails(check_cache, NeverCommits(), "calls itself exact, but tokens differ")


@final
class SkipsTheLast(Schedule):
    def windows(self, max_new_tokens, offset):
        return (range(0, max(max_new_tokens - 1, 1)),)


def test_a_broken_schedule():
    fails(check_schedule, SkipsTheLast(), "do not cover")


@final
class Unscaled(AttentionBackend):
    def __call__(self, q, k, v, visible, scale):
        mask = None if visible is None else visible.mask
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0, enable_gqa=True)


@final
class SeesEverything(AttentionBackend):
    def __call__(self, q, k, v, visible, scale):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=True)


@final
class ForgetsTheChosen(AttentionBackend):
    def __call__(self, q, k, v, visible, scale):
        mask = None if visible is None else replace(visible, chosen=None).mask
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
        return out.nan_to_num()


@pytest.mark.parametrize("backend", [Unscaled(), SeesEverything(), ForgetsTheChosen()], ids=repr)
def test_broken_attention_backends(backend):
    fails(check_attention, backend, "differs from softmax attention")


def test_a_broken_pass():
    def swaps_the_rule(graph):
        """Commit every open slot, whatever the policy says."""
        nodes = [replace(n, op=lambda masked, *_: masked) if "commit" in n.writes else n for n in graph.nodes]
        return graph.with_nodes(nodes)

    fails(check_pass, swaps_the_rule, "tokens changed")


class Yes(Scorer):
    def check(self, reference):
        if reference == "never":
            raise ValueError("nothing answers never")

    def right(self, text, reference):
        return True


@final
class Words(Task):
    """Gives what `kind` says is wrong."""

    scorer: Scorer = Yes()
    kind: str

    def examples(self, limit):
        if self.kind == "changing":
            return [Example(str(next(COUNT)), "a", "b")]
        if self.kind == "last":
            return [Example(str(n), "a", "b") for n in range(30)][-limit:] if limit else []
        return {
            "none": [],
            "twice": [Example("1", "a", "b"), Example("1", "c", "d")],
            "empty": [Example("1", "", "b")],
            "spoken": [Example("1", [{"role": "user", "text": "a"}], "b")],
            "refused": [Example("1", "a", "never")],
        }[self.kind][:limit]


COUNT = count()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("none", "0 examples where 1 to 20 were asked for"),
        ("twice", "two examples have one id"),
        ("changing", "a second look gives other examples"),
        ("last", "fewer examples are not the first of more"),
        ("empty", "example '1': an empty id or prompt"),
        ("spoken", "example '1': a message is none"),
        ("refused", "example '1': its own scorer refuses the reference: nothing answers never"),
    ],
)
def test_tasks(kind, message):
    fails(check_task, Words(kind=kind), message)


@final
class Vague(Scorer):
    def right(self, text, reference):
        return True if text == reference else text.find(reference)


@final
class Moody(Scorer):
    def right(self, text, reference):
        return text == reference or next(COUNT) % 2 == 0


@pytest.mark.parametrize(
    ("scorer", "answer", "message"),
    [
        (Yes(), "a", "nothing answers never"),
        (Vague(), "b", "'b' should answer 'never'"),
        (Vague(), "never", "is neither True nor False"),
        (Moody(), "never", "is judged once so and once so"),
    ],
)
def test_scorers(scorer, answer, message):
    fails(lambda part: check_scorer(part, "never", answer), scorer, message)
