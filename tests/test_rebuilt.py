"""A backbone rebuilt for decoding predicts what the module it was made of does, and leaves that as it was."""

import pytest
import torch
import transformers
from torch import nn

from fdllm.caches.base import Rows
from fdllm.kernels import linear
from fdllm.kernels.linear import OneDnnLinear
from fdllm.models import last_layer
from fdllm.models.backbone import BackboneDenoiser
from fdllm.models.feed import feed
from fdllm.models.last_layer import LastLayer
from fdllm.models.rebuilt import rebuilt
from fdllm.models.spec import Spec
from fdllm.testing import random_model

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "use_cache": False,
}
MIXED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_routed_experts": 4}
KINDS = ["Llama", "Qwen2", "Qwen3", "Qwen3Moe", "Glm4Moe", "Gemma2"]


def module_of(kind):
    made = getattr(transformers, f"{kind}ForCausalLM")
    sizes = {**SIZES, **MIXED} if kind.endswith("Moe") else SIZES
    if kind == "Gemma2":
        # what no attention backend computes
        sizes = {
            **SIZES,
            "attn_logit_softcapping": None,
            "layer_types": ["full_attention"] * SIZES["num_hidden_layers"],
        }
    torch.manual_seed(0)
    module = made(made.config_class(**sizes)).double()
    # experts run together take no float64
    module.config._experts_implementation = "eager"
    return module


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [False, True])
@torch.inference_mode()
def test_the_last_layer_on_what_is_read(kind, shift):
    """Ragged rows, one of which waits: what predicts a window is what the whole layer gives, and the store too."""
    module = module_of(kind)
    spec = Spec(mask_id=39, eos_ids=(38,), vocab_size=40, context=64, shift=shift)
    model = BackboneDenoiser(module, spec)
    assert isinstance(model._rebuilt.module.get_decoder().layers[-1], LastLayer)
    ids = torch.randint(0, 38, (3, 12), generator=torch.Generator().manual_seed(1))
    lengths, windows = [12, 9, 11], [range(8, 11), range(4, 7), range(6, 9)]
    made = feed(spec, [Rows(range(12)), Rows(range(9)), None], windows, lengths)
    plain = model._states(module, ids, made, None, model.attention)
    for store in (None, model.new_store(3, 12)):
        hidden = model.hidden(ids, made, store, model.attention)
        wanted = last_layer.picked(plain, made.picks)
        assert (hidden - wanted)[:2].abs().max() <= 1e-12 * wanted.abs().max()
    part = feed(spec, [Rows(range(4, 12)), Rows(range(4, 9)), None], windows, lengths)
    again = model.hidden(ids, part, store, model.attention)
    assert (again - wanted)[:2].abs().max() <= 1e-12 * wanted.abs().max()


@torch.inference_mode()
def test_the_last_layer_leaves_out_queries_and_mlp_of_other_rows():
    model = random_model()
    seen = []
    last = model._rebuilt.module.get_decoder().layers[-1].layer
    for part in (last.self_attn.q_proj, last.self_attn.k_proj, last.mlp):
        part.register_forward_hook(lambda _, given, out: seen.append(given[0].shape[1]))
    made = feed(model.spec, [Rows(range(12))], [range(8, 11)], [12])
    model.hidden(torch.zeros(1, 12, dtype=torch.int64), made, None, model.attention)
    assert seen == [12, 3, 3, 3]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 7), (2, 5, 33), (3, 64)])
@torch.inference_mode()
def test_linear_layers(shape, bias):
    """The error against float64 is within that of any order of float32 sums."""
    torch.manual_seed(0)
    layer, x = nn.Linear(shape[-1], 19, bias=bias), torch.randn(shape)
    assert linear.fits(layer)
    given = nn.Linear(shape[-1], 19, bias=bias, dtype=torch.float64)
    given.load_state_dict(layer.state_dict())
    exact = given(x.double())
    for weight in given.parameters():
        weight.abs_()
    allowed = (shape[-1] + 1) * torch.finfo(torch.float32).eps * given(x.double().abs())
    assert ((OneDnnLinear(layer)(x) - exact).abs() <= allowed).all()


def test_which_linear_layers_go_to_onednn():
    assert linear.fits(nn.Linear(3, 4)) == torch.backends.mkldnn.is_available()
    assert not linear.fits(nn.Linear(3, 4, dtype=torch.float64))
    assert not linear.fits(nn.Linear(3, 4, dtype=torch.bfloat16))
    assert not linear.fits(nn.Linear(3, 4, device="meta"))
    assert not linear.fits(nn.Bilinear(3, 4, 5))


def test_parameters_are_shared_and_the_module_is_left_alone():
    module = module_of("Llama").float()
    before = {name: type(part) for name, part in module.named_modules()}
    made = rebuilt(module).module
    assert {name: type(part) for name, part in module.named_modules()} == before
    assert {id(each) for each in made.parameters()} == {id(each) for each in module.parameters()}
    with torch.no_grad():
        module.lm_head.weight.fill_(2)
    assert (made.lm_head.weight == 2).all()


def test_a_module_with_hooks_of_others_stays_as_it_is():
    module = module_of("Llama")
    norm = module.model.norm
    norm.forward = norm.forward
    found = rebuilt(module)
    assert found.module is module and not found.picks


@torch.inference_mode()
def test_a_compiled_linear_layer_gives_the_same():
    layer, x = OneDnnLinear(nn.Linear(7, 5)), torch.randn(3, 7)
    assert torch.equal(torch.compile(layer, fullgraph=True)(x), layer(x))
