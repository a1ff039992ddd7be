"""What fuse and place choose, by what is read, by the head and by the device."""

from dataclasses import replace

import pytest
import torch
import transformers
from torch import nn

import fdllm
from fdllm.component import SettingError
from fdllm.graph import check, node
from fdllm.kernels.head_statistics import HeadWeight, reference, tiled
from fdllm.models.backbone import BackboneDenoiser
from fdllm.passes import place
from fdllm.passes.demand import demand
from fdllm.passes.fuse import fuse
from fdllm.passes.resolve import resolve
from fdllm.sampling import Greedy, Sample, Vocabulary
from fdllm.testing import random_model
from fdllm.types import Entropy, Logits


def titles(graph):
    return [each.title for each in graph.nodes]


def fused(model, *more):
    parts = fdllm.compile(model, max_new_tokens=4).parts
    graph = check(resolve(parts, ())[0])
    return fuse(
        demand(check(replace(graph, nodes=(*graph.nodes, *more), outputs=(*graph.outputs, *(n.name for n in more)))))
    )


def test_the_head_joins_the_statistics_where_nobody_else_reads_the_logits():
    assert "HeadStatistics(candidate, confidence)" in titles(fused(random_model()))

    def peak(logits: Logits) -> Entropy:
        return logits.amax(-1)

    apart = titles(fused(random_model(), node(peak, "peak")))
    assert {"Head", "RowStatistics(candidate, confidence)"} <= {*apart}


class Doubled(nn.Linear):
    def forward(self, hidden):
        return 2 * super().forward(hidden)


def copy_of(model):
    module = transformers.LlamaForCausalLM(model.module.config).double()
    module.load_state_dict(model.module.state_dict())
    return BackboneDenoiser(module, model.spec)


@pytest.mark.parametrize("change", ["another class", "a hook", "another forward"])
def test_a_head_that_is_more_than_its_weight_is_called(change):
    model = copy_of(random_model())
    head = model.module.lm_head
    if change == "another class":
        model.module.lm_head = Doubled(head.in_features, head.out_features, bias=False).double()
    elif change == "a hook":
        head.register_forward_hook(lambda module, given, out: 2 * out)
    else:
        head.forward = lambda hidden: 2 * nn.Linear.forward(head, hidden)
    assert model.head_weight() is None
    assert "Head" in titles(fused(model))


def test_samples_from_a_large_head_are_drawn_in_tiles():
    config = transformers.LlamaConfig(
        vocab_size=9000,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = transformers.LlamaForCausalLM(config).double()
        nn.init.normal_(module.lm_head.weight)
    model = BackboneDenoiser(module, fdllm.Spec(mask_id=8999, eos_ids=(8998,), context=64))
    how = {"max_new_tokens": 8, "temperature": 1.0}
    decoder = fdllm.compile(model, **how)
    graph = decoder.compiled.programs["full"].graph
    assert "HeadStatistics(candidate, confidence) in tiles" in titles(graph)
    (op,) = (each.op for each in graph.nodes if isinstance(each.op, tiled.HeadStatistics))
    hidden, noise = torch.randn(2, 20, 16).double(), torch.arange(40).view(2, 20)
    whole = reference.HeadStatistics(op.head, op.draw, op.reads, op.wanted)(hidden, noise)
    for got, expected in zip(op(hidden, noise), whole, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=4e-6)
    expected = fdllm.compile(lambda ids: model.logits(ids), spec=model.spec, **how).generate([[1, 2]], seed=1).tokens
    assert torch.equal(decoder.generate([[1, 2]], seed=1).tokens, expected)


def test_tiles_where_they_pay():
    vocabulary = Vocabulary(0, None)
    head = lambda num_ids: HeadWeight(torch.zeros(1, 1).expand(num_ids, 8))  # noqa: E731
    assert tiled.pays(head(8192), Sample(vocabulary, 1.0))
    assert not tiled.pays(head(8191), Sample(vocabulary, 1.0))
    assert not tiled.pays(head(126464), Greedy(vocabulary))


def test_kernels_by_device(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 1)
    assert [place.form(kernels, gpu) for kernels in place.KERNELS] == ["triton", "torch", "triton"]
    assert [place.form(kernels, cpu) for kernels in ("auto", "torch")] == ["torch", "torch"]
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert [place.form(kernels, cpu) for kernels in place.KERNELS] == ["torch", "torch", "triton"]
    monkeypatch.setattr(place, "find_spec", {"triton": None}.get)
    assert place.form("auto", gpu) == "torch"
    with pytest.raises(
        SettingError, match=r"kernels: 'triton' is not installed here; install it, or give kernels = .auto"
    ):
        place.form("triton", gpu)


def test_triton_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    message = (
        r"kernels: 'triton' needs a GPU, but the model is on cpu; give kernels = \"auto\", or set TRITON_INTERPRET=1"
    )
    with pytest.raises(SettingError, match=message):
        fdllm.compile(random_model(), kernels="triton")
    with pytest.raises(SettingError, match=r"kernels: wanted one of auto, torch, triton, got 'cuda'"):
        fdllm.compile(random_model(), kernels="cuda")
