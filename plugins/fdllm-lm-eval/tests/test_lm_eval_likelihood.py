"""Likelihoods: exact where they can be, unbiased where they are drawn; greedy answers; what is refused."""

from collections import Counter
from itertools import product

import pytest
import torch
from fdllm_lm_eval.likelihood import check, is_greedy, log_likelihood, masks, pieces
from fdllm_lm_eval.settings import Options

import fdllm
from fdllm.component import SettingError
from fdllm.models.function import FunctionDenoiser
from fdllm.testing import random_model

PREFIX = [5, 6, 7]


def joint_model(length, shift, vocabulary=3):
    """A model that knows the joint distribution of the last `length` tokens: each masked one given the open others."""
    joint = torch.rand((vocabulary,) * length, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    joint /= joint.sum()

    def logits(ids):
        out = torch.zeros(*ids.shape, vocabulary + 1, dtype=torch.float64)
        for row, tokens in enumerate(ids[:, -length:].tolist()):
            fits = torch.zeros_like(joint)
            for each in product(range(vocabulary), repeat=length):
                if all(told in (vocabulary, token) for told, token in zip(tokens, each, strict=True)):
                    fits[each] = joint[each]
            for slot in range(length):
                here = fits.movedim(slot, 0).reshape(vocabulary, -1).sum(-1)
                out[row, ids.shape[1] - length + slot - shift, :vocabulary] = here.log()
        out[..., vocabulary] = -torch.inf
        return out

    return FunctionDenoiser(logits, fdllm.Spec(mask_id=vocabulary, shift=shift)), joint


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_of_a_model_that_knows_the_joint_distribution_it_is_exact(length, shift):
    model, joint = joint_model(length, shift)
    for answer in list(product(range(3), repeat=length))[::4]:
        found = log_likelihood(model, PREFIX, list(answer), Options(mc_samples=7), 0)
        assert found == pytest.approx(joint[answer].log().item(), rel=1e-5)


def test_the_closed_form_of_two_tokens():
    model, (a, b) = random_model(1), (8, 9)
    mask = model.spec.mask_id

    def logp(shown, slot, token):
        return model.logits(torch.tensor([PREFIX + shown])).float().log_softmax(-1)[0, len(PREFIX) + slot, token].item()

    alone = logp([mask, b], 0, a) + logp([a, mask], 1, b)
    both = logp([mask, mask], 0, a) + logp([mask, mask], 1, b)
    # one token masked in half of the cases, either with half, twice its loss; both in the other half
    expected = 0.5 * 0.5 * 2 * alone + 0.5 * both
    assert log_likelihood(model, PREFIX, [a, b], Options(mc_samples=3), 0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("length", [1, 4, 7])
def test_all_masks_are_taken_once_where_they_are_few(length):
    chosen, weights = masks(length, 2**length - 1, "", 0)
    assert sorted(map(tuple, chosen.tolist())) == sorted(product([False, True], repeat=length))[1:]
    # every token is scored with weight one in all
    assert (weights @ chosen.double()).tolist() == pytest.approx([1.0] * length)
    assert len(masks(length, 2**length - 2, "", 0)[0]) == 2**length - 2


@pytest.mark.parametrize(("length", "samples"), [(6, 12), (6, 10), (40, 16)])
def test_counts_are_spread_evenly_and_each_is_as_likely_as_another(length, samples):
    drawn = [masks(length, samples, "", seed)[0].sum(-1) for seed in range(600)]
    for counts in drawn[:20]:
        seen = Counter(counts.tolist())
        assert max(seen.values()) <= -(-samples // length) and min(seen) >= 1 and max(seen) <= length
    first = Counter(int(counts[samples // 2]) for counts in drawn)
    expected = 600 / length
    # chi-squared, four standard deviations over its mean
    assert sum((first[n] - expected) ** 2 / expected for n in range(1, length + 1)) < length + 4 * (2 * length) ** 0.5


def test_the_estimate_converges_to_the_sum_over_all_masks():
    model, answer = random_model(2), [1, 8, 3, 9, 4, 12]
    exact = log_likelihood(model, PREFIX, answer, Options(mc_samples=63), 0)
    drawn = torch.tensor([log_likelihood(model, PREFIX, answer, Options(mc_samples=24), s) for s in range(30)])
    assert len(set(drawn.tolist())) == 30
    assert abs(drawn.mean().item() - exact) < 4 * drawn.std().item() / 30**0.5
    assert drawn.std().item() < abs(exact) / 4


def test_masks_depend_on_seed_and_prefix_and_not_on_batches():
    model, answer = random_model(0), list(range(1, 9))
    found = [log_likelihood(model, PREFIX, answer, Options(mc_samples=10, mc_batch=n), 0) for n in (1, 3, 10)]
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)
    drawn = masks(8, 10, "a", 0)[0]
    assert torch.equal(drawn, masks(8, 10, "a", 0)[0])
    assert not torch.equal(drawn, masks(8, 10, "b", 0)[0]) and not torch.equal(drawn, masks(8, 10, "a", 1)[0])


def test_answers_to_one_prompt_share_their_masks():
    seen = []

    def logits(ids):
        seen.append(ids[:, len(PREFIX) :] == 39)
        return torch.zeros(*ids.shape, 40)

    model = FunctionDenoiser(logits, fdllm.Spec(mask_id=39))
    for prefix, answer in ((PREFIX, range(9)), (PREFIX, range(9, 18)), (PREFIX[::-1], range(9))):
        log_likelihood(model, prefix, list(answer), Options(mc_samples=16), 0)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_an_answer_over_blocks_is_scored_block_by_block():
    model, answer = random_model(0, pattern="block-causal"), [1, 8, 3, 9, 4, 12]
    assert [*pieces(model.spec, 3, 6)] == [range(1), range(1, 5), range(5, 6)]
    assert [*pieces(model.spec, 4, 4)] == [range(4)]
    assert [*pieces(random_model().spec, 40, 70)] == [range(70)]
    assert [*pieces(random_model().spec, 40, 0)] == []
    how = Options()
    parts = [(PREFIX, answer[:1]), (PREFIX + answer[:1], answer[1:5]), (PREFIX + answer[:5], answer[5:])]
    apart = sum(log_likelihood(model, *part, how, 0) for part in parts)
    assert log_likelihood(model, PREFIX, answer, how, 0) == pytest.approx(apart)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("pattern", ["full", "block-causal"])
def test_greedy_is_what_fdllm_decodes_at_one_token_a_step(shift, pattern):
    model = random_model(3, shift=shift, pattern=pattern)
    how = {"cache": "none", "policy": "top-k", "block_length": 5 if pattern == "full" else 4, "stop_at_eos": False}
    (answer,) = fdllm.compile(model, max_new_tokens=5, **how).generate([PREFIX]).tokens.tolist()
    assert is_greedy(model, PREFIX, answer)
    for slot in range(5):
        wrong = [*answer[:slot], (answer[slot] + 1) % 30, *answer[slot + 1 :]]
        assert not is_greedy(model, PREFIX, wrong)


@pytest.mark.parametrize("how", [{"noise": "uniform"}, {"pattern": "causal-prefix"}])
def test_a_model_that_masks_do_not_measure_is_refused(how):
    check(random_model())
    with pytest.raises(SettingError, match=r"random llama 0 has noise = .*; choose tasks that generate, or a model of"):
        check(random_model(**how))
