"""Loading: every key accounted for, everything that does not fit refused in the user's words."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import fdllm
from fdllm.component import SettingError
from fdllm.models.family import CheckpointError
from fdllm.models.function import FunctionDenoiser
from fdllm.models.module import ModuleDenoiser
from fdllm.reference import Reference
from fdllm.testing import check_denoiser, random_model


@pytest.fixture
def checkpoint(data, tmp_path):
    """A copy of a tiny LLaDA checkpoint that a test may damage."""
    folder = tmp_path / "llada"
    shutil.copytree(data / "families" / "llada", folder)
    return folder


def edit(folder, **changes):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alibi": True}, r"alibi = True \(only False is supported\)"),
        ({"block_type": "sequential"}, "block_type = 'sequential'"),
        ({"activation_type": "gelu"}, "activation_type = 'gelu'"),
        ({"rope": False, "scale_logits": True}, "rope = False .*; scale_logits = True"),
        ({"include_qkv_bias": True}, "include_qkv_bias"),
        ({"d_model": ...}, "'d_model' is missing"),
        ({"architectures": ["LLaDAModelLMM"]}, "no model family named 'LLaDAModelLMM'; did you mean 'LLaDAModelLM'"),
        ({"architectures": None}, "names no architectures"),
        ({"mlp_hidden_size": 80}, "of another shape: model.layers.0.mlp.down_proj.weight"),
        ({"n_layers": 3}, "missing: model.layers.2.input_layernorm.weight"),
        ({"n_layers": 1}, "left over: "),
        ({"architectures": 3}, "config.json: architectures = 3 is no list of names"),
        ({"architectures": True}, "config.json: architectures = True is no list of names"),
        ({"architectures": [1]}, r"config.json: architectures = \[1\] is no list of names"),
        ({"architectures": "LLaDAModelLM"}, "config.json: architectures = 'LLaDAModelLM' is no list of names"),
        (
            {"eos_token_id": "x"},
            "config.json: eos_token_id has 'x', which is none of the model's 96 ids; correct it, or give",
        ),
        ({"eos_token_id": {}}, "config.json: eos_token_id has {}, which is none"),
        ({"eos_token_id": [1, 96]}, "config.json: eos_token_id has 96, which is none of the model's 96 ids"),
        ({"text_config": 3}, "config.json: text_config = 3 is no table of keys"),
        ({"pad_token_id": 10**9}, "config.json: pad_token_id = 1000000000 is no id below 96"),
        ({"embedding_size": -1}, "config.json: embedding_size = -1 is no whole number of at least 1"),
        ({"n_kv_heads": 0}, "config.json: n_kv_heads = 0 is no whole number of at least 1"),
    ],
)
def test_a_config_that_does_not_fit(checkpoint, changes, message):
    edit(checkpoint, **changes)
    with pytest.raises(CheckpointError, match=message):
        fdllm.load(str(checkpoint))


FILES = [
    ("config.json", "[1]", r"config.json: wanted an object of keys, got \[1\]"),
    ("config.json", "3", "config.json: wanted an object of keys, got 3"),
    ("config.json", "[" * 100_000, "cannot read config.json of .*RecursionError"),
    ("generation_config.json", "", "cannot read generation_config.json of .*JSONDecodeError: Expecting value"),
    ("generation_config.json", "{", "cannot read generation_config.json of .*JSONDecodeError"),
    ("generation_config.json", "[1]", "generation_config.json: wanted an object of keys"),
    ("generation_config.json", "3", "generation_config.json: wanted an object of keys, got 3"),
    ("generation_config.json", '{"eos_token_id": [true]}', "generation_config.json: eos_token_id has True"),
    ("tokenizer.json", "{}", "cannot read the tokenizer of .*KeyError: 'added_tokens'"),
    ("tokenizer_config.json", "[]", "cannot read the tokenizer of .*AttributeError"),
    ("tokenizer_config.json", '{"tokenizer_class": 3}', "cannot read the tokenizer of .*AttributeError"),
    ("model.safetensors.index.json", '{"metadata": {}}', "cannot load weights from .*KeyError: 'weight_map'"),
    ("model.safetensors.index.json", '{"weight_map": {"a": "b"}}', "cannot load weights from .*KeyError: 'metadata'"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES, ids=[f"{name} {text[:9]}" for name, text, _ in FILES])
def test_files_that_hold_something_else(checkpoint, name, content, message):
    (checkpoint / name).write_text(content)
    if name.endswith("index.json"):
        (checkpoint / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=message):
        fdllm.load(str(checkpoint))


def test_a_size_that_only_the_backbone_would_stumble_over(data, tmp_path):
    shutil.copytree(data / "families" / "dream", tmp_path / "dream")
    edit(tmp_path / "dream", num_key_value_heads=0)
    with pytest.raises(CheckpointError, match="config.json: num_key_value_heads = 0 is no whole number of at least 1"):
        fdllm.load(str(tmp_path / "dream"))


def test_a_dtype_of_the_config_that_is_none(checkpoint):
    edit(checkpoint, torch_dtype="float7")
    with pytest.raises(SettingError, match="model.dtype: config.json has 'float7', which is no floating point dtype"):
        fdllm.load(str(checkpoint))


def test_a_missing_tensor_is_an_error(checkpoint):
    weights = load_file(checkpoint / "model.safetensors")
    del weights["model.transformer.blocks.1.up_proj.weight"]
    save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="missing: model.layers.1.mlp.up_proj.weight"):
        fdllm.load(str(checkpoint))


def test_broken_and_missing_files(checkpoint, tmp_path):
    (checkpoint / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="cannot load weights"):
        fdllm.load(str(checkpoint))
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot load weights"):
        fdllm.load(str(checkpoint))
    (checkpoint / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot read config.json of .*JSONDecodeError: Expecting property name"):
        fdllm.load(str(checkpoint))
    with pytest.raises(CheckpointError, match="has no config.json"):
        fdllm.load(str(tmp_path))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"dtype": "float7"}, "model.dtype: 'float7' is no floating point dtype"),
        ({"dtype": "int64"}, "model.dtype: 'int64'"),
        ({"dtype": "float8_e4m3fn"}, "model.dtype: 'float8_e4m3fn' is no floating point dtype of 16 bits or more"),
        ({"family": 3}, "model.family: wanted a name or a Family, got 3"),
        ({"mask_id": True}, "model.mask_id: Input should be a valid integer, got True"),
        ({"shift": 1}, "model.shift: Input should be a valid boolean, got 1"),
        ({"block_length": True}, "model.block_length: Input should be a valid integer, got True"),
        ({"device": "tpu9"}, "model.device: cannot use 'tpu9'"),
        ({"blok_length": 3}, "model.blok_length: no such key"),
        ({"block_length": 0}, "model.block_length: .*greater than or equal to 1"),
        ({"eos_ids": (3,)}, "is the mask id"),
        ({"attention": "spda"}, "no attention backend named 'spda'; did you mean 'sdpa'"),
    ],
)
def test_bad_overrides(data, how, message):
    with pytest.raises(ValueError, match=message):
        fdllm.load(str(data / "families" / "llada"), **how)


def test_overrides_change_the_spec(data):
    folder = str(data / "families" / "llada")
    spec = fdllm.load(folder, mask_id=4, eos_ids=[5, 6], block_length=8).spec
    assert (spec.mask_id, spec.eos_ids, spec.block_length) == (4, (5, 6), 8)
    model = fdllm.load(folder, block_length=8, attention="eager")
    assert "Blocks(block_length=8)" in fdllm.compile(model).explain()
    assert fdllm.compile(model).record()["attention"] == "Eager()"


def test_eos_is_a_union(checkpoint):
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 1]}))
    assert fdllm.load(str(checkpoint)).spec.eos_ids == (1, 7)


@pytest.mark.parametrize("family", ["llada", "llada_tied", "dream"])
def test_bfloat16_keeps_rotary_frequencies_exact(data, family):
    model = fdllm.load(str(data / "families" / family), dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    frequencies = [buffer for name, buffer in model.module.named_buffers() if "inv_freq" in name]
    assert frequencies
    assert all(buffer.dtype == torch.float32 for buffer in frequencies)
    tokens = fdllm.compile(model, cache="dual", max_new_tokens=8, block_length=4).generate([[5, 6]]).tokens
    assert tokens.shape == (1, 8)


def test_a_transformers_module_is_left_as_it_was(data):
    loaded = random_model(family="qwen2")
    before = loaded.module.config._attn_implementation
    causal = loaded.module(torch.tensor([[1, 2, 3]])).logits
    spec = fdllm.Spec(mask_id=39, eos_ids=(38,))
    decoder = fdllm.compile(loaded.module, spec=spec, cache="dual", max_new_tokens=6, block_length=3)
    expected = fdllm.compile(loaded, cache="dual", max_new_tokens=6, block_length=3).generate([[1, 2], [3]]).tokens
    assert torch.equal(decoder.generate([[1, 2], [3]]).tokens, expected)
    assert loaded.module.config._attn_implementation == before
    assert torch.equal(loaded.module(torch.tensor([[1, 2, 3]])).logits, causal)


def position_aware(ids):
    """Logits that depend on neighbours and positions, bidirectionally."""
    table = torch.randn(24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = table[ids]
    return seen + seen.roll(1, 1) + seen.flip(1) + torch.arange(ids.shape[1])[None, :, None] * table[0]


def with_lengths(ids, lengths):
    rows = [position_aware(row[None, :n]) for row, n in zip(ids, lengths.tolist(), strict=True)]
    return torch.cat([torch.nn.functional.pad(row, (0, 0, 0, ids.shape[1] - row.shape[1])) for row in rows])


@pytest.mark.parametrize("fn", [position_aware, with_lengths])
@pytest.mark.parametrize("shift", [False, True])
def test_a_function_is_a_model(fn, shift):
    spec = fdllm.Spec(mask_id=23, eos_ids=(22,), shift=shift)
    decoder = fdllm.compile(fn, spec=spec, max_new_tokens=9, block_length=3)
    prompts = [[1, 2, 3, 4], [5], [6, 7]]
    plain = Reference(position_aware, spec, decoder.parts.policy, decoder.plan.schedule, 9)
    assert decoder.generate(prompts).tokens.tolist() == [plain.decode(prompt)[0] for prompt in prompts]
    assert torch.equal(decoder.model.logits(torch.tensor([[1, 2]])), position_aware(torch.tensor([[1, 2]])))


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_backbones_hold_the_law_of_denoisers(family, shift):
    """With a shift the window of a reuse step also asks for the slot left of it."""
    check_denoiser(random_model(family=family, shift=shift))


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_checkpoints_hold_the_law_of_denoisers(data, family):
    check_denoiser(fdllm.load(str(data / "families" / family)), vocabulary=96)


@pytest.mark.parametrize("fn", [position_aware, with_lengths])
def test_functions_hold_the_law_of_denoisers(fn):
    check_denoiser(FunctionDenoiser(fn, fdllm.Spec(mask_id=23)), vocabulary=24)


def test_the_law_of_denoisers_has_teeth():
    def blind_to_lengths(ids, lengths):
        return position_aware(ids)

    with pytest.raises(AssertionError, match="a row depends on its batch"):
        check_denoiser(FunctionDenoiser(blind_to_lengths, fdllm.Spec(mask_id=23)), vocabulary=24)


def test_a_function_that_returns_something_else():
    decoder = fdllm.compile(lambda ids: ids, spec=fdllm.Spec(mask_id=3))
    with pytest.raises(ValueError, match=r"wanted logits \[1, 258, V\] from ids, got shape \(1, 258\)"):
        decoder.generate([[1, 2]])


def test_a_spec_beyond_the_embedding_is_refused():
    module = random_model().module
    with pytest.raises(SettingError, match="mask_id = 40 and vocab_size = None must fit the embedding's 40 rows"):
        fdllm.compile(module, spec=fdllm.Spec(mask_id=40))
    with pytest.raises(ValueError, match=r"ids \[40\] are outside the vocabulary \[0, 40\)"):
        fdllm.compile(module, spec=fdllm.Spec(mask_id=39), max_new_tokens=2).generate([[40]])


def test_a_spec_is_a_spec():
    with pytest.raises(SettingError, match=r"spec: a foreign model needs one, such as fdllm.Spec\(.*, got dict"):
        fdllm.compile(position_aware, spec={"mask_id": 23})


def test_a_module_without_a_head_is_refused():
    with pytest.raises(
        SettingError, match="model: LlamaModel has no head that gives logits; give the transformers class"
    ):
        fdllm.compile(random_model().module.model, spec=fdllm.Spec(mask_id=39))


def test_ids_that_no_tensor_holds_are_refused():
    decoder = fdllm.compile(position_aware, spec=fdllm.Spec(mask_id=23), max_new_tokens=2)
    with pytest.raises(ValueError, match=r"prompts\[0\]: ids \[18446744073709551616\] are outside the vocabulary"):
        decoder.generate([[2**64]])


@pytest.mark.parametrize("built_in", [True, False])
def test_the_bar_of_loading_shows_where_somebody_waits(data, built_in, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fdllm.load("tiny" if built_in else str(data / "families" / "llada"))
    assert ("Loading weights" in capsys.readouterr().err) is not built_in


def test_a_spec_says_what_is_wrong():
    with pytest.raises(ValueError, match="is the mask id"):
        fdllm.Spec(mask_id=3, eos_ids=(3,))
    with pytest.raises(ValueError, match="outside the vocabulary of 8"):
        fdllm.Spec(mask_id=3, eos_ids=8, vocab_size=8)
    with pytest.raises(SettingError, match="this model has its own"):
        fdllm.compile(random_model(), spec=fdllm.Spec(mask_id=3))


def test_ids_beyond_the_tokenizer_are_never_produced(data):
    model = fdllm.load(str(data / "families" / "llada"), vocab_size=20)
    out = fdllm.compile(model, max_new_tokens=12, temperature=2.0, stop_at_eos=False).generate([[5, 6]] * 4, seed=3)
    assert (out.tokens < 20).all()
    assert not (out.tokens == model.spec.mask_id).any()


# foreign modules


def causal_lm(kind, **settings):
    made = getattr(transformers, f"{kind}ForCausalLM")
    config = made.config_class(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=0,
        **settings,
    )
    torch.manual_seed(0)
    return made(config).eval()


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("Cohere", {"logit_scale": 0.5}, "the CohereForCausalLM does more than its decoder stack"),
        ("Granite", {"logits_scaling": 8.0}, "the GraniteForCausalLM does more than its decoder stack"),
        ("Gemma2", {}, "Gemma2Attention attends with softcap and sliding_window, which no attention backend here"),
        ("Mistral", {"sliding_window": 4}, "MistralAttention attends with sliding_window, which no attention backend"),
        (
            "Nemotron",
            {},
            r"cannot be run layer by layer over a slot store \(\w+: .*\); give a function from ids to logits",
        ),
    ],
)
def test_a_causal_lm_that_computes_more_is_refused(kind, settings, why):
    with pytest.raises(SettingError, match=f"model: .*{why}"):
        fdllm.compile(causal_lm(kind, **settings), spec=fdllm.Spec(mask_id=39), max_new_tokens=4)


class Own(torch.nn.Module):
    """A model of no library we know: it attends by itself, over whatever store it is handed."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.embed = torch.nn.Embedding(40, 16)
        self.place = torch.nn.Embedding(64, 16)
        self.layers = torch.nn.ModuleList(
            torch.nn.ModuleDict({n: torch.nn.Linear(16, 16) for n in "qkv"}) for _ in "ab"
        )
        self.drop, self.out = torch.nn.Dropout(0.5), torch.nn.Linear(16, 40)

    def forward(self, input_ids, position_ids, past_key_values=None, attention_mask=None):
        x = self.embed(input_ids) + self.place(position_ids)
        for number, layer in enumerate(self.layers):
            q, k, v = (layer[name](x).unflatten(-1, (2, 8)).transpose(1, 2) for name in "qkv")
            if past_key_values is not None:
                k, v = past_key_values.update(k, v, number)
            seen = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)
            x = x + self.drop(seen.transpose(1, 2).flatten(-2))
        return self.out(3 * x)


@pytest.mark.parametrize("pattern", ["full", "block-causal", "causal-prefix"])
def test_a_module_with_k_v_of_its_own_gets_the_slot_store(pattern):
    module = Own().double()
    spec = fdllm.Spec(mask_id=39, eos_ids=(38,), vocab_size=40, pattern=pattern, block_length=4)
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    for cache in ("none", "dual" if pattern == "full" else "block-causal"):
        decoder = fdllm.compile(module, spec=spec, cache=cache, policy="top-k", max_new_tokens=8, block_length=4)
        assert type(decoder.model) is ModuleDenoiser
        out = decoder.generate(prompts)
        for i, prompt in enumerate(prompts):
            assert torch.equal(decoder.generate([prompt], row_ids=[i]).tokens[0], out.tokens[i])
        if cache != "dual":
            plain = Reference(decoder.model.logits, spec, decoder.parts.policy, decoder.plan.schedule, 8)
            assert out.tokens.tolist() == [plain.decode(prompt)[0] for prompt in prompts]
    assert (
        decoder.generate(prompts).stats.rows
        < fdllm.compile(module, spec=spec, cache="none", policy="top-k", max_new_tokens=8, block_length=4)
        .generate(prompts)
        .stats.rows
    )
    check_denoiser(decoder.model, vocabulary=40)


def test_a_foreign_module_decodes_in_eval_mode_and_may_answer_with_an_object():
    class Answers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Embedding(40, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 40))

        def forward(self, ids):
            return transformers.modeling_outputs.MaskedLMOutput(logits=self.layers(ids))

    decoder = fdllm.compile(Answers().train(), spec=fdllm.Spec(mask_id=39), max_new_tokens=4)
    assert torch.equal(decoder.generate([[1, 2]]).tokens, decoder.generate([[1, 2]]).tokens)
    assert not decoder.model.fn.training


def test_a_function_is_not_told_where_its_window_ends():
    spec = fdllm.Spec(mask_id=3, vocab_size=4, pattern="causal-prefix", block_length=2)
    with pytest.raises(SettingError, match=r"spec.pattern: a function is not told where the window ends"):
        fdllm.compile(lambda ids: ids, spec=spec)


def test_hooks_on_layers_are_run_when_decoding():
    module = causal_lm("Llama")
    calls = []
    module.model.layers[0].mlp.down_proj.register_forward_hook(lambda *given: calls.append(1))
    fdllm.compile(module, spec=fdllm.Spec(mask_id=39), max_new_tokens=2).generate([[1, 2]])
    assert len(calls) > 2


def test_a_model_recommends_what_can_be_recommended():
    model = random_model(3)
    model.defaults = {"polciy": "top-k"}
    with pytest.raises(
        SettingError, match="defaults: a model may recommend block_length, cache, policy, temperature, not"
    ):
        fdllm.compile(model)
    model.defaults = {}
