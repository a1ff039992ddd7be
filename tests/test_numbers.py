"""The numbers policies see: signals against float64, selection against loops, noise against its law."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fdllm import signals
from fdllm.kernels.row_statistics.reference import RowStatistics
from fdllm.noise import gumbel, keys, uniform
from fdllm.policies.factor import Factor
from fdllm.policies.topk import TopK
from fdllm.ranking import FEW, TILE, best, first_max, max_by_tiles, ranks
from fdllm.sampling import Greedy, Sample, Truncate, Vocabulary
from fdllm.testing import many

rows = st.lists(st.lists(st.floats(-30, 30, width=32), min_size=5, max_size=5), min_size=1, max_size=4)


@many
@given(rows)
def test_signals_against_float64(values):
    logits = torch.tensor([values])
    exact = logits.double().softmax(-1)
    tokens = logits.argmin(-1)
    top = exact.sort(-1, descending=True).values
    expected = {
        "confidence": exact.amax(-1),
        "margin": top[..., 0] - top[..., 1],
        "entropy": -(exact * exact.clamp_min(1e-300).log()).sum(-1),
        "current_probability": exact.gather(-1, tokens[..., None])[..., 0],
    }
    candidate = Greedy(Vocabulary(99, None))(logits)
    got = {
        "confidence": signals.confidence(logits, candidate),
        "margin": signals.margin(logits),
        "entropy": signals.entropy(logits),
        "current_probability": signals.current_probability(logits, tokens),
    }
    for name, value in expected.items():
        torch.testing.assert_close(got[name].double(), value, atol=2e-5, rtol=1e-5)


@many
@given(rows, st.sets(st.sampled_from(["confidence", "margin", "entropy", "current_probability"]), min_size=1))
def test_fusing_changes_no_bit(values, wanted):
    logits = torch.tensor([values])
    tokens = logits.argmin(-1)
    draw = Greedy(Vocabulary(1, 4))
    names = ("candidate", *sorted(wanted))
    fused = dict(zip(names, RowStatistics(draw, ("tokens",), names)(logits, tokens), strict=True))
    candidate = draw(logits)
    given_by_name = {"logits": logits, "candidate": candidate, "tokens": tokens}
    for name in wanted:
        signal = getattr(signals, name)
        parameters = signal.__code__.co_varnames[: signal.__code__.co_argcount]
        assert torch.equal(fused[name], signal(*(given_by_name[p] for p in parameters)))
    assert torch.equal(fused["candidate"], candidate)


@many
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 0.5, 1.0, math.nan])), min_size=1, max_size=8),
    st.integers(0, 9),
)
def test_ranks_against_a_loop(row, count):
    masked = torch.tensor([[is_open for is_open, _ in row]])
    score = torch.tensor([[value for _, value in row]])
    order = sorted(range(len(row)), key=lambda i: (not row[i][0], math.inf if math.isnan(row[i][1]) else -row[i][1], i))
    assert ranks(masked, score).tolist() == [[order.index(i) for i in range(len(row))]]
    chosen = [i for i in order if row[i][0]][:count]
    assert best(masked, score, torch.tensor([[count]])).tolist() == [[i in chosen for i in range(len(row))]]


@many
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=7), st.sampled_from([0.3, 0.5, 1.0, 2.0]), st.booleans()
)
def test_factor_against_a_loop(confidences, factor, as_released):
    """The rule as the paper and as the published code state it, one rank at a time."""
    order = sorted(range(len(confidences)), key=lambda i: (-confidences[i], i))
    c = torch.tensor(confidences)
    m = len(order)
    if as_released:
        fails = [i for i, s in enumerate(order) if i > 0 and not bool(c[s] >= 1 - factor / torch.tensor(i + 2))]
        top = fails[0] if fails else m - 1
        count = top + 1 if top in (0, m - 1) else top
    else:
        good = [n for n in range(1, m + 1) if bool(torch.tensor(n + 1) * (1 - c[order[n - 1]]) < factor)]
        prefix = [n for n in good if set(range(1, n + 1)) <= set(good)]
        count = max([1, *prefix])
    masked = torch.ones(1, m, dtype=torch.bool)
    got = Factor(factor=factor, as_released=as_released)(masked, c[None])
    assert got.tolist() == [[i in order[:count] for i in range(m)]]


def test_published_factor_cases():
    """Source: the off-by-one of the released code, on [.99, .98, .97, .01] and [.02, .02] with factor 1."""
    for values, paper, released in (([0.99, 0.98, 0.97, 0.01], 3, 4), ([0.02, 0.02], 1, 2)):
        masked = torch.ones(1, len(values), dtype=torch.bool)
        assert Factor()(masked, torch.tensor([values])).sum() == paper
        assert Factor(as_released=True)(masked, torch.tensor([values])).sum() == released


@many
@given(st.integers(1, 64), st.integers(1, 4), st.integers(1, 40), st.sampled_from(["even", "timesteps"]))
def test_plans_add_up(num_open, num_blocks, steps, spacing):
    plan = TopK(steps=steps * num_blocks, spacing=spacing).quotas(num_open, num_blocks)
    assert sum(plan) == num_open
    assert len(plan) == steps
    assert all(quota >= 0 for quota in plan)
    if spacing == "even":
        assert max(plan) - min(plan) <= 1
        assert list(plan) == sorted(plan, reverse=True)


def test_plans_by_k():
    assert TopK(k=3).quotas(8, 1) == (3, 3, 2)
    assert TopK().quotas(3, 5) == (1, 1, 1)


def test_ties_go_to_the_lowest_legal_id():
    scores = torch.tensor([[[1.0, 5.0, 5.0, 5.0, 7.0, 9.0]]])
    assert Vocabulary(mask_id=1, size=4).best(scores).item() == 2
    assert Vocabulary(mask_id=0, size=4).best(scores).item() == 1
    assert Vocabulary(mask_id=3, size=4).best(scores).item() == 1
    assert Vocabulary(mask_id=9, size=None).best(scores).item() == 5
    assert Vocabulary(mask_id=5, size=None).best(scores).item() == 4


@many
@given(st.integers(TILE, 4 * TILE + 3), st.integers(1, 3), st.integers(1, 9), st.booleans(), st.integers(0, 2**32 - 1))
def test_the_highest_by_tiles_is_the_highest(width, count, values, with_nan, seed):
    noise = torch.Generator().manual_seed(seed)
    # few values, so that most are tied
    scores = torch.randint(0, values, (1, count, width + 5), generator=noise).float()[..., 2:-3]
    scores[scores == 0] = -torch.inf
    if with_nan:
        scores[0, 0, seed % width] = torch.nan
    wanted = torch.tensor(
        [row.index(max(row, key=lambda x: math.inf if math.isnan(x) else x)) for row in scores[0].tolist()]
    )
    for highest, index in (max_by_tiles(scores), first_max(scores), scores.max(-1)):
        assert torch.equal(index[0], wanted)
        assert torch.equal(highest.nan_to_num(9e9), scores.gather(-1, index[..., None])[..., 0].nan_to_num(9e9))


def test_many_scores_are_told_as_few_are():
    scores = torch.randn(2, 3, FEW, generator=torch.Generator().manual_seed(1))
    whole = signals.scores_and_total(scores)[1]
    for b, w in ((0, 0), (1, 2)):
        one = scores[b : b + 1, w : w + 1]
        assert torch.equal(signals.scores_and_total(one)[1], whole[b : b + 1, w : w + 1])
        assert torch.equal(first_max(scores)[1][b, w], one.argmax())
    torch.testing.assert_close(whole, scores.double().logsumexp(-1, keepdim=True).float())


def test_noise_is_uniform_and_apart():
    key = keys(7, torch.arange(64)[:, None], torch.arange(64)[None].expand(64, -1), 3)
    assert len(key.unique()) > 4090
    u = uniform(key.unsqueeze(-1), torch.arange(256))
    assert u.min() > 0
    assert u.max() < 1
    counts = torch.histc(u, 32, 0, 1)
    expected = u.numel() / 32
    assert ((counts - expected) ** 2 / expected).sum() < 80  # 31 degrees of freedom: 1e-6 of tables lie beyond
    flat = u.flatten(0, 1)
    assert torch.corrcoef(torch.stack([flat[:, :-1].flatten(), flat[:, 1:].flatten()]))[0, 1].abs() < 0.005
    assert torch.corrcoef(torch.stack([u[:-1].flatten(), u[1:].flatten()]))[0, 1].abs() < 0.005
    for seed, slot, step in ((8, 0, 3), (7 + 2**33, 0, 3), (7, 1, 3), (7, 0, 4)):
        other = keys(seed, torch.tensor([[0]]), torch.tensor([[slot]]), step)
        assert other.item() != key[0, 0].item()


def test_samples_follow_the_distribution():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 5.0]).expand(1, 20000, 5)
    key = keys(1, torch.tensor([[0]]), torch.arange(20000)[None], 0)
    drawn = Sample(Vocabulary(mask_id=4, size=None), 2.0)(logits, key)
    expected = (torch.tensor([0.0, 1.0, 2.0, -1.0]) / 2).softmax(-1)
    shares = torch.bincount(drawn.flatten(), minlength=5) / 20000
    torch.testing.assert_close(shares[:4], expected, atol=0.012, rtol=0)
    assert shares[4] == 0
    assert gumbel(key, logits).mean().item() == pytest.approx(0.5772, abs=0.02)


def test_truncation_keeps_the_id_that_crosses():
    logits = torch.tensor([[[0.5, 0.3, 0.15, 0.05]]]).log()
    vocabulary = Vocabulary(9, None)
    kept = lambda **how: Truncate(vocabulary, how.get("top_p"), how.get("top_k"), 0.0)(logits).isfinite().tolist()[0][0]  # noqa: E731
    assert kept(top_p=0.4) == [True, False, False, False]
    assert kept(top_p=0.6) == [True, True, False, False]
    assert kept(top_k=3) == [True, True, True, False]
    assert kept(top_p=0.9, top_k=1) == [True, False, False, False]
    masked = Truncate(Vocabulary(0, None), None, 1, 0.0)(logits)
    assert masked.isfinite().tolist()[0][0] == [True, True, False, False]
