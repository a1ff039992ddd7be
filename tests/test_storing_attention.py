"""Rotation and write by one kernel while decoding: where it is chosen, that it runs, and that nothing else changes."""

from contextlib import contextmanager

import pytest
import torch
import transformers
from test_rebuilt import KINDS, module_of
from transformers.models.llama.modeling_llama import LlamaAttention

import fdllm
from fdllm.caches.base import Rows
from fdllm.kernels.launch import recording
from fdllm.kernels.store_kv import reference, triton
from fdllm.models import storing_attention
from fdllm.models.backbone import BackboneDenoiser
from fdllm.models.feed import feed
from fdllm.models.spec import Spec
from fdllm.testing import check_denoiser, random_model

PROMPTS = [[7, 8, 9], [6], [10, 11, 12, 13, 14]]
FAMILIES = {
    **dict.fromkeys(["llada", "dream", "lladamoe"], ["prefix", "dual", "refresh-interval"]),
    **dict.fromkeys(["sdar", "fdv2", "llada2"], ["block-causal", "hierarchical"]),
}
CHOSEN = "Forward(Sdpa()) with store_kv in triton"
SPEC = Spec(mask_id=39, eos_ids=(38,), vocab_size=40, context=64)


@contextmanager
def launches():
    """Collect the names of the kernels that are launched, as an execution that records them does."""
    seen = []

    def keep(run):
        seen.append(run.__self__.kernel.__name__)
        run()

    token = recording.set(keep)
    try:
        yield seen
    finally:
        recording.reset(token)


@pytest.mark.parametrize(("name", "cache"), [(name, cache) for name, caches in FAMILIES.items() for cache in caches])
def test_families_decode_to_the_same_tokens(data, name, cache):
    """Ragged rows; the graph shows the kernel, and it is launched."""
    model = fdllm.load(str(data / "families" / name), **({"block_length": 8} if name == "llada2" else {}))
    how = {"cache": cache, "max_new_tokens": 8, "block_length": 4, "policy": "top-k"}
    expected = fdllm.compile(model, kernels="torch", **how).generate(PROMPTS)
    decoder = fdllm.compile(model, kernels="triton", **how)
    assert {*decoder.compiled.programs} == {"refresh", "reuse"}
    for program in decoder.compiled.programs.values():
        assert CHOSEN in [each.title for each in program.graph.nodes]
    assert CHOSEN in decoder.explain()
    with launches() as seen:
        out = decoder.generate(PROMPTS)
    assert torch.equal(out.tokens, expected.tokens)
    assert out.row_nfe == expected.row_nfe
    assert "store_kv_kernel" in seen


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_rows_that_are_done_leave_and_the_store_is_cut(cache):
    model = random_model(3)
    how = {"cache": cache, "policy": {"name": "top-k", "k": 1}, "max_new_tokens": 8, "block_length": 4}
    prompts = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    first = fdllm.compile(model, kernels="torch", stop_at_eos=False, **how).generate(prompts).tokens
    # what the second row says first ends it
    model = BackboneDenoiser(model.module, model.spec.model_copy(update={"eos_ids": (int(first[1, 0]),)}))
    expected = fdllm.compile(model, kernels="torch", **how).generate(prompts)
    got = fdllm.compile(model, kernels="triton", **how).generate(prompts)
    assert len({*expected.row_nfe}) > 1 and got.row_nfe == expected.row_nfe
    assert torch.equal(got.tokens, expected.tokens)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Gemma2"])
@pytest.mark.parametrize("form", [reference, triton], ids=["torch", "triton"])
@pytest.mark.parametrize("shift", [False, True])
@torch.inference_mode()
def test_what_is_stored_and_predicted(kind, form, shift):
    """Of ragged rows, one of which waits, every slot that anybody sees, after a whole forward and one of a part."""
    model = BackboneDenoiser(module_of(kind), SPEC.model_copy(update={"shift": shift}))
    other = model.with_store_kv(form.store_kv)
    ids = torch.randint(0, 38, (3, 12), generator=torch.Generator().manual_seed(1))
    lengths, windows = [12, 9, 11], [range(8, 11), range(4, 7), range(6, 9)]
    ours, theirs = other.new_store(3, 12), model.new_store(3, 12)
    # more than two windows, of which the last layer makes keys apart, then fewer
    for first, second in ((range(12), range(9)), (range(8, 12), range(4, 8))):
        made = feed(model.spec, [Rows(first), Rows(second), None], windows, lengths)
        got, wanted = (m.hidden(ids, made, s, m.attention) for m, s in ((other, ours), (model, theirs)))
        close(got[:2], wanted[:2])
        for mine, known in zip(ours.slot_layers, theirs.slot_layers, strict=True):
            close(mine.keys[:, :, :-1], known.keys[:, :, :-1])
            close(mine.values[:, :, :-1], known.values[:, :, :-1])


def close(got, wanted):
    assert (got - wanted).abs().max() <= 1e-12 * wanted.abs().max()


def test_it_is_launched_once_a_layer():
    """But for the last layer of a forward over more than two windows, which takes its keys apart from its queries."""
    model = random_model()
    how = {"cache": "dual", "policy": {"name": "top-k", "k": 1}, "max_new_tokens": 8, "block_length": 4}
    with launches() as seen:
        out = fdllm.compile(model, kernels="triton", stop_at_eos=False, **how).generate([[1, 2, 3]])
    assert dict(out.stats.forwards) == {"refresh": 2, "reuse": 6}
    assert seen.count("store_kv_kernel") == 1 * 2 + 2 * 6


def test_without_a_gpu_nothing_changes():
    for kernels in ("auto", "torch"):
        decoder = fdllm.compile(random_model(), cache="dual", kernels=kernels, max_new_tokens=4)
        with launches() as seen:
            decoder.generate([[1, 2, 3]])
        assert not seen and "store_kv" not in decoder.explain(source=True)


def test_without_a_store_it_is_not_chosen():
    assert "store_kv" not in fdllm.compile(random_model(), cache="none", kernels="triton", max_new_tokens=4).explain()


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("pattern", ["full", "block-causal"])
def test_the_law_of_denoisers(family, pattern):
    check_denoiser(random_model(1, family=family, pattern=pattern).with_store_kv(reference.store_kv))


def test_the_given_model_is_left_as_it_was():
    model = random_model(2)
    before = {name: type(part) for name, part in model._rebuilt.module.named_modules()}
    other = model.with_store_kv(reference.store_kv)
    assert {name: type(part) for name, part in model._rebuilt.module.named_modules()} == before
    assert {id(p) for p in other._rebuilt.module.parameters()} == {id(p) for p in model._rebuilt.module.parameters()}


class Scaled(LlamaAttention):
    """Computes something more than its class."""

    def forward(self, hidden_states, **kwargs):
        out, weights = super().forward(hidden_states, **kwargs)
        return 2 * out, weights


def changed(change):
    """A tiny Llama whose first attention is more than its class says."""
    module = module_of("Gemma2" if change == "another class" else "Qwen2" if change == "a sliding window" else "Llama")
    attention = module.model.layers[0].self_attn
    if change == "a subclass":
        attention.__class__ = Scaled
    elif change == "a hook":
        attention.register_forward_hook(lambda module, given, out: (2 * out[0], out[1]))
    elif change == "another forward":
        attention.forward = lambda *args, **kwargs: LlamaAttention.forward(attention, *args, **kwargs)
    elif change == "a further part":
        attention.gate = torch.nn.Identity()
    elif change == "a parameter":
        attention.sinks = torch.nn.Parameter(torch.zeros(4))
    elif change == "a sliding window":
        attention.sliding_window = 4
    elif change == "layers of another name":
        module.model.blocks = module.model.layers
        del module.model.layers
    return module


@pytest.mark.parametrize(
    "change",
    [
        "another class",
        "a subclass",
        "a hook",
        "another forward",
        "a further part",
        "a parameter",
        "a sliding window",
        "layers of another name",
    ],
)
def test_what_does_not_fit_stays_as_it_is(change):
    model = BackboneDenoiser(changed(change), SPEC)
    assert model.with_store_kv(reference.store_kv) is None
    decoder = fdllm.compile(model, cache="dual", kernels="triton", max_new_tokens=4)
    assert "-> Forward(Sdpa()) -> hidden" in decoder.explain() and "store_kv" not in decoder.explain()


def test_a_subclass_decodes_as_it_computes():
    model = BackboneDenoiser(changed("a subclass"), SPEC)
    how = {"cache": "dual", "max_new_tokens": 4}
    tokens = [fdllm.compile(model, kernels=kernels, **how).generate([[1, 2]]).tokens for kernels in ("torch", "triton")]
    assert torch.equal(*tokens)


def test_every_known_class_is_one_of_transformers():
    for path in storing_attention._KNOWN:
        _, _, family, _, name = path.split(".")
        module = getattr(transformers.models, family)
        assert f"{name.removesuffix('Attention')}ForCausalLM" in dir(module)


@pytest.mark.parametrize("cache", ["dual", "prefix", "refresh-interval"])
def test_recorded_launches_write_in_place(cache):
    """As with CUDA graphs: what was launched while a step was recorded is replayed over the same buffers."""
    how = {"cache": cache, "kernels": "triton", "max_new_tokens": 8, "block_length": 4, "policy": "top-k"}
    static = fdllm.compile(random_model(), execution="static", **how)
    assert CHOSEN in static.explain()
    eager = fdllm.compile(random_model(), **{**how, "kernels": "torch"})
    for seed in range(2):
        prompts = [[1 + seed, 2, 3], [4, 5 + seed]]
        assert torch.equal(static.generate(prompts).tokens, eager.generate(prompts).tokens)
