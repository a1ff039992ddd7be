"""The laws of policies, a worked example, and the rule against a plain loop."""

import pytest
import torch
from fdllm_entropy_bound import EntropyBound
from hypothesis import given
from hypothesis import strategies as st

from fdllm.testing import check_policy


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_laws(gamma):
    check_policy(EntropyBound(gamma=gamma))


@pytest.mark.parametrize(
    ("gamma", "committed"), [(0.0, [3]), (0.05, [1, 3]), (0.1, [1, 3, 5]), (0.2, [0, 1, 3, 5]), (0.5, [0, 1, 2, 3, 5])]
)
def test_a_worked_example(gamma, committed):
    entropy = torch.tensor([[0.30, 0.05, 0.90, 0.02, 0.01, 0.06]])
    masked = torch.tensor([[True, True, True, True, False, True]])
    # surest first: 0.02, 0.05, 0.06, 0.30, 0.90; summed without the last: 0, 0.02, 0.07, 0.13, 0.43
    assert EntropyBound(gamma=gamma)(masked, entropy)[0].nonzero().flatten().tolist() == committed


def test_ties_go_left():
    masked = torch.ones(1, 4, dtype=torch.bool)
    assert EntropyBound(gamma=0.5)(masked, torch.full((1, 4), 0.5)).tolist() == [[True, True, False, False]]


def plain(is_open, entropies, gamma):
    """Read the rule off the paper: add slots, surest first, until the sum without the last is over."""
    committed, total = set(), 0.0
    for entropy, slot in sorted((h, slot) for slot, h in enumerate(entropies) if is_open[slot]):
        if total > gamma:
            break
        committed.add(slot)
        total += entropy
    return committed


NATS = st.sampled_from([0.0, 0.125, 0.5, 1.0]) | st.floats(0, 10, width=32)


@given(st.lists(st.tuples(st.booleans(), NATS), min_size=1), st.sampled_from([0.0, 0.125, 1.0]) | st.floats(0, 20))
def test_the_rule_is_the_plain_loop(slots, gamma):
    is_open, entropies = zip(*slots, strict=True)
    chosen = EntropyBound(gamma=gamma)(torch.tensor([is_open]), torch.tensor([entropies]))
    assert set(chosen[0].nonzero().flatten().tolist()) == plain(is_open, entropies, gamma)
