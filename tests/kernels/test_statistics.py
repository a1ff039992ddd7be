"""Statistics kernels against the references: odd sizes, dtypes, strides, ties, -inf, shards, whole decodes."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fdllm
from fdllm.kernels.head_statistics import HeadWeight, tiled
from fdllm.kernels.head_statistics import reference as head_reference
from fdllm.kernels.head_statistics import triton as head_triton
from fdllm.kernels.partials import reference as partials_reference
from fdllm.kernels.partials import triton as partials_triton
from fdllm.kernels.row_statistics import NAMES
from fdllm.kernels.row_statistics import reference as row_reference
from fdllm.kernels.row_statistics import triton as row_triton
from fdllm.noise import uniform
from fdllm.sampling import Greedy, Sample, Vocabulary

EPS = torch.finfo(torch.float32).eps
some = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """Fill what `torch.empty` gives with NaN, or with ids there are none of, so that nothing unwritten passes."""
    empty = torch.empty

    def filled(*size, **how):
        made = empty(*size, **how)
        return made.fill_(float("nan") if made.is_floating_point() else -(2**40))

    monkeypatch.setattr(torch, "empty", filled)


@dataclass
class Case:
    """Logits [B W V] of any dtype and strides, and how they are to be judged."""

    logits: torch.Tensor
    draw: Greedy | Sample
    noise: torch.Tensor
    tokens: torch.Tensor
    wanted: tuple[str, ...]
    slack: float = 0.0  # how far another rounding of the same formula moves a logit
    reads = ("noise", "tokens")

    @property
    def values(self):
        return self.noise, self.tokens


def spaced(values, kind, dtype):
    """The values as a view: contiguous, rows cut out of wider ones, or the last axis strided; NaN in between."""
    batch, width, size = values.shape
    if kind == "rows":
        room = torch.full((batch, width + 1, size + 3), float("nan"), dtype=dtype)
        view = room[:, 1:, 2 : 2 + size]
    elif kind == "columns":
        room = torch.full((size, batch, width), float("nan"), dtype=dtype)
        view = room.permute(1, 2, 0)
    else:
        return values.to(dtype)
    return view.copy_(values)


@st.composite
def vocabularies(draw, num_ids):
    size = draw(st.none() | st.integers(1, num_ids))
    mask_id = draw(st.sampled_from([0, num_ids - 1, num_ids // 2, num_ids + 7]))
    legal = [i for i in range(size or num_ids) if i != mask_id]
    return Vocabulary(mask_id, size) if legal else Vocabulary(num_ids + 7, size)


@st.composite
def cases(draw):
    batch, width, num_ids = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 300))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    logits = draw(st.sampled_from([0.5, 4.0, 30.0])) * torch.randn(batch, width, num_ids, generator=noise)
    if draw(st.booleans()):
        logits = logits.round()  # ties
    vocabulary = draw(vocabularies(num_ids))
    if draw(st.booleans()):
        gone = torch.rand(logits.shape, generator=noise) < 0.5
        gone.scatter_(-1, vocabulary.best(logits).unsqueeze(-1), False)
        logits = logits.masked_fill(gone, -torch.inf)
    dtype, kind = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(["plain", "rows", "columns"]))
    return Case(
        spaced(logits, kind, dtype),
        draw(st.sampled_from([Greedy(vocabulary), Sample(vocabulary, 1.0), Sample(vocabulary, 0.3)])),
        torch.randint(0, 2**32, (batch, width), generator=noise),
        torch.randint(0, num_ids, (batch, width), generator=noise),
        ("candidate", *draw(st.lists(st.sampled_from(sorted(NAMES - {"candidate"})), unique=True))),
    )


def exact(case, candidate):
    """Every statistic in float64, for the candidates that were drawn."""
    scores = case.logits.double()
    shares = scores.softmax(-1)
    first, second = [*scores.topk(min(2, scores.shape[-1]), -1).indices.unbind(-1), None][:2]
    at = lambda ids: shares.gather(-1, ids.unsqueeze(-1)).squeeze(-1)  # noqa: E731
    return {
        "confidence": at(candidate),
        "current_probability": at(case.tokens),
        "margin": at(first) - (0 if second is None else at(second)),
        "entropy": -(shares * scores.log_softmax(-1)).nan_to_num(nan=0.0).sum(-1),
    }


def named(found, wanted):
    return dict(zip(wanted, found if isinstance(found, tuple) else (found,), strict=True))


def judge(case, found, whole):
    """Hold a result to the reference: candidates bit for bit, statistics within twice its own error in float64.

    A sample may differ where the two noisy scores lie within the rounding of both.
    """
    got, ref = named(found, case.wanted), named(whole, case.wanted)
    candidate = got["candidate"]
    assert candidate.dtype == torch.int64 and candidate.shape == case.tokens.shape
    if isinstance(case.draw, Greedy):
        assert torch.equal(candidate, ref["candidate"])
    else:
        noise = -(-uniform(case.noise.unsqueeze(-1), torch.arange(case.logits.shape[-1])).double().log()).log()
        scores = case.logits.double() / case.draw.temperature
        pair = torch.stack([candidate, ref["candidate"]], -1)
        noisy = (scores + noise).gather(-1, pair)
        size = (scores.abs() + noise.abs()).gather(-1, pair).amax(-1)
        assert ((noisy[..., 0] - noisy[..., 1]).abs() <= 8 * EPS * size + 2 * case.slack).all()
    allowed = (8 * EPS + 2 * case.slack) * torch.tensor(float(case.logits.shape[-1] + 2)).log()
    mine, its = exact(case, candidate), exact(case, ref["candidate"])
    for name in case.wanted[1:]:
        assert got[name].dtype == torch.float32
        error, known = (got[name] - mine[name]).abs(), (ref[name] - its[name]).abs()
        assert (error <= 2 * known.max() + allowed).all(), f"{name}: off by {error.max():.1e}"


@some
@given(cases())
def test_row_statistics(case):
    whole = row_reference.RowStatistics(case.draw, case.reads, case.wanted)(case.logits, *case.values)
    found = row_triton.RowStatistics(case.draw, case.reads, case.wanted)(case.logits, *case.values)
    judge(case, found, whole)


@pytest.mark.parametrize("gone", [slice(0, 0), slice(0, 4096), slice(4096, 8192)])
@pytest.mark.parametrize("draw", [Greedy(Vocabulary(4099, 9001)), Sample(Vocabulary(0, None), 0.7)])
def test_rows_of_several_stretches(draw, gone):
    """The best id, the next and the token each in another stretch, and one stretch all at -inf."""
    logits = torch.randn(1, 2, 9001, generator=torch.Generator().manual_seed(0))
    logits[..., 8999] = logits[..., 4097] = 9.0
    logits[..., gone] = -torch.inf
    wanted = ("candidate", *sorted(NAMES - {"candidate"}))
    case = Case(logits, draw, torch.tensor([[1, 2]]), torch.tensor([[8999, 17]]), wanted)
    whole = row_reference.RowStatistics(draw, case.reads, wanted)(logits, *case.values)
    made = row_triton.RowStatistics(draw, case.reads, wanted)
    judge(case, made(logits, *case.values), whole)
    finished = partials_reference.finish(made.partials(logits, *case.values), wanted)
    judge(case, tuple(each.view_as(case.tokens) for each in finished), whole)


@pytest.mark.parametrize("mask_id", [0, 299])
def test_equal_logits_give_the_lowest_legal_id(mask_id):
    logits = torch.zeros(1, 1, 300)
    for size in (None, 200):
        draw = Greedy(Vocabulary(mask_id, size))
        candidate, confidence = row_triton.RowStatistics(draw, (), ("candidate", "confidence"))(logits)
        assert candidate.item() == (1 if mask_id == 0 else 0)
        assert confidence.item() == pytest.approx(1 / 300, rel=1e-6)


def test_noise_is_the_same_bits():
    """With equal logits the sample is the id of the largest uniform number, which no rounding blurs."""
    keys = torch.randint(0, 2**32, (1, 40), generator=torch.Generator().manual_seed(0))
    draw = Sample(Vocabulary(300, None), 1.0)
    (candidate,) = (row_triton.RowStatistics(draw, ("noise",), ("candidate",))(torch.zeros(1, 40, 300), keys),)
    assert torch.equal(candidate, uniform(keys.unsqueeze(-1), torch.arange(300)).argmax(-1))


@st.composite
def heads(draw):
    """A case with the head and the hidden states its logits come from.

    Entries are small multiples of powers of two, so that every order of summing gives the same
    logits in every dtype; ties abound.
    """
    batch, width, num_ids = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 300))
    depth = draw(st.sampled_from([1, 2, 7, 32, 33, 64, 65]))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    dtype, kind = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(["plain", "rows", "columns"]))
    small = lambda top, *size: torch.randint(-top, top + 1, size, generator=noise).double() / 4  # noqa: E731
    hidden = spaced(4 * small(1, batch, width, depth), kind, dtype)
    weight = spaced(small(1, 1, num_ids, depth), draw(st.sampled_from(["plain", "rows", "columns"])), dtype)[0]
    bias = small(9, num_ids).to(dtype) if draw(st.booleans()) else None
    head = HeadWeight(weight, bias, draw(st.sampled_from([1.0, 0.5])), draw(st.sampled_from([None, 20.0])))
    vocabulary = draw(vocabularies(num_ids))
    case = Case(
        head.logits(hidden),
        draw(st.sampled_from([Greedy(vocabulary), Sample(vocabulary, 0.7)])),
        torch.randint(0, 2**32, (batch, width), generator=noise),
        torch.randint(0, num_ids, (batch, width), generator=noise),
        ("candidate", *draw(st.lists(st.sampled_from(sorted(NAMES - {"candidate"})), unique=True))),
        # the kernel takes its tanh by way of an exponential
        slack=8 * EPS * (head.cap or 0.0),
    )
    return case, head, hidden


@some
@given(heads(), st.integers(1, 400))
def test_head_statistics(task, tile):
    case, head, hidden = task
    whole = head_reference.HeadStatistics(head, case.draw, case.reads, case.wanted)(hidden, *case.values)
    parts = tiled.HeadStatistics(head, case.draw, case.reads, case.wanted, tile)(hidden, *case.values)
    judge(case, parts, whole)
    judge(case, head_triton.HeadStatistics(head, case.draw, case.reads, case.wanted)(hidden, *case.values), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_products_are_rounded_once(dtype):
    """Over weights of any size a logit is off by half a unit of the head's dtype, and the rounding of a float32 sum."""
    noise = torch.Generator().manual_seed(1)
    weight = torch.randn(200, 130, generator=noise).to(dtype)
    hidden = torch.randn(1, 3, 130, generator=noise).to(dtype)
    draw = Greedy(Vocabulary(3, None))
    partials = head_triton.HeadStatistics(HeadWeight(weight), draw, (), ("candidate",)).partials(hidden)
    logits = hidden.double()[0] @ weight.double().T
    parts = partials_reference.Partials(*partials)
    for stretch, ids in enumerate([slice(0, 128), slice(128, 200)]):
        top = logits[:, ids].amax(-1)
        summed = 130 * EPS * (hidden.double()[0].abs() @ weight.double().abs().T)[:, ids].amax(-1)
        half_unit = 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps / 2
        assert ((parts.top[:, stretch] - top).abs() <= half_unit * top.abs() + summed).all()
        assert (parts.top[:, stretch].to(dtype).float() == parts.top[:, stretch]).all()


@some
@given(heads(), st.lists(st.integers(1, 299), max_size=4, unique=True), st.booleans())
def test_shards_of_uneven_size_equal_the_whole(task, cuts, in_triton):
    """Each shard is reduced to eight numbers a row; those of all shards give the statistics of the whole."""
    case, head, hidden = task
    whole = head_reference.HeadStatistics(head, case.draw, case.reads, case.wanted)(hidden, *case.values)
    num_ids = len(head.weight)
    gathered = []
    for start, stop in pairwise([0, *sorted(cut for cut in cuts if cut < num_ids), num_ids]):
        share = replace(head, weight=head.weight[start:stop], bias=None if head.bias is None else head.bias[start:stop])
        made = (head_triton if in_triton else tiled).HeadStatistics(share, case.draw, case.reads, case.wanted)
        gathered.append(partials_reference.combine(made.partials(hidden, *case.values, first=start)))
    partials = torch.cat(gathered, -1)
    assert partials.shape == (8, case.tokens.numel(), len(gathered))
    judge(case, partials_triton.finish(partials, case.wanted, len(hidden)), whole)
    finished = partials_reference.finish(partials, case.wanted)
    judge(case, tuple(each.view_as(case.tokens) for each in finished), whole)


# whole decodes


def tiny():
    """A tiny random model in float32; everything about it is in `fdllm.testing`."""
    from copy import deepcopy

    from fdllm.models.backbone import BackboneDenoiser
    from fdllm.testing import random_model

    model = random_model(3)
    return BackboneDenoiser(deepcopy(model.module).float(), model.spec)


POLICIES = [
    {"name": "threshold", "threshold": 0.6},
    *({"name": "top-k", "k": 2, "order": order} for order in ("confidence", "margin", "entropy", "random")),
]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: "-".join(map(str, policy.values())))
def test_decoding_in_triton_gives_the_same_tokens(policy, temperature):
    how = {"policy": policy, "max_new_tokens": 8, "block_length": 4, "temperature": temperature, "cache": "dual"}
    prompts = [[1, 2, 3], [5, 6]]
    decoder = fdllm.compile(tiny(), kernels="triton", **how)
    together = policy.get("order") != "random"
    assert ("HeadStatistics(candidate" in decoder.explain()) == together
    assert (" in triton -> candidate" in decoder.explain()) == together
    expected = fdllm.compile(tiny(), kernels="torch", **how).generate(prompts, seed=5).tokens
    assert torch.equal(decoder.generate(prompts, seed=5).tokens, expected)


def test_a_model_that_is_a_function_decodes_in_triton():
    model = tiny()
    how = {"spec": model.spec, "max_new_tokens": 6, "block_length": 3, "temperature": 1.0}
    decoder = fdllm.compile(lambda ids: model.logits(ids), kernels="triton", **how)
    assert "Head -> logits" in decoder.explain()
    assert "RowStatistics(candidate, confidence) in triton" in decoder.explain()
    expected = fdllm.compile(lambda ids: model.logits(ids), kernels="torch", **how).generate([[1, 2]]).tokens
    assert torch.equal(decoder.generate([[1, 2]]).tokens, expected)


def test_narrowed_logits_decode_in_triton():
    """With top_k the head writes its logits, most of them go to -inf, and the statistics are of the rest."""
    how = {"max_new_tokens": 6, "temperature": 1.0, "top_k": 3, "top_p": 0.9}
    decoder = fdllm.compile(tiny(), kernels="triton", **how)
    assert "RowStatistics(candidate, confidence) in triton" in decoder.explain()
    assert torch.equal(
        decoder.generate([[1, 2]]).tokens, fdllm.compile(tiny(), kernels="torch", **how).generate([[1, 2]]).tokens
    )
