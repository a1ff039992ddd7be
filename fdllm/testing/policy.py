"""The laws of unmasking policies."""

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from fdllm.graph import node
from fdllm.policies.base import UnmaskingPolicy
from fdllm.testing.decoding import check_decoding
from fdllm.testing.strategies import many, situations


def choose(policy: UnmaskingPolicy, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Ask a policy; return `commit`, and what else it answers, by name."""
    reads = node(policy.rule(), "policy").reads
    answer = policy.rule()(**{name: values[name] for name in reads})
    return {"commit": answer} if isinstance(answer, Tensor) else answer._asdict()


def check_policy(policy: UnmaskingPolicy) -> None:
    """Hold the laws stated in `UnmaskingPolicy`, then decode with it against the reference."""

    @many
    @given(situations(policy))
    def rule(values: dict[str, Tensor]) -> None:
        before = {name: value.clone() for name, value in values.items()}
        answer = choose(policy, values)
        commit, masked = answer["commit"], values["masked"]
        assert commit.dtype == torch.bool, f"{policy!r}: commit is {commit.dtype}, not bool"
        assert commit.shape == masked.shape, f"{policy!r}: commit has shape {tuple(commit.shape)}, not that of masked"
        assert not (commit & ~masked).any(), f"{policy!r}: a decided slot was committed again"
        if policy.progresses:
            assert torch.equal(commit.any(-1), masked.any(-1)), f"{policy!r}: a row made no progress"
        if policy.punctual:
            due = values["quota"].minimum(masked.sum(-1, keepdim=True)).clamp(min=0)
            assert torch.equal(commit.sum(-1, keepdim=True), due), f"{policy!r}: commits are not the quota"
        if policy.drafts:
            assert not (answer["draft"] & ~masked).any(), f"{policy!r}: a decided slot was drafted"
        if policy.revokes:
            assert not (answer["reopen"] & masked).any(), f"{policy!r}: an open slot was reopened"
        same = {name: torch.equal(values[name].nan_to_num(9), before[name].nan_to_num(9)) for name in before}
        assert all(same.values()), f"{policy!r}: a value it reads was changed"
        _same_answer(answer, choose(policy, values), f"{policy!r}: the same values gave another choice")
        for i in range(len(masked)):
            alone = choose(policy, {name: value[i : i + 1] for name, value in values.items()})
            row = {name: value[i : i + 1] for name, value in answer.items()}
            _same_answer(row, alone, f"{policy!r}: a row's choice depends on the rows around it")

    rule()
    if policy.monotone:
        _check_monotone(policy)
    check_decoding(policy=policy)


def _same_answer(one: dict[str, Tensor], other: dict[str, Tensor], law: str) -> None:
    assert all(torch.equal(one[name].nan_to_num(9), other[name].nan_to_num(9)) for name in one), law


def _check_monotone(policy: UnmaskingPolicy) -> None:
    @many
    @given(situations(policy), st.floats(0, 1), st.floats(0, 1))
    def knob(values: dict[str, Tensor], one: float, other: float) -> None:
        try:
            looser, stricter = (policy.with_settings(**{policy.monotone: v}) for v in sorted((one, other)))
        except ValidationError:
            assume(False)
        more, fewer = choose(looser, values)["commit"], choose(stricter, values)["commit"]
        assert not (fewer & ~more).any(), f"{policy!r}: a larger {policy.monotone} committed more slots"

    knob()
