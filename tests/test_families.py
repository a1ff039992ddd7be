"""Every family: published logits, or those of the backbone under the published names; what is refused, and why."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel

import fdllm
from fdllm import registry
from fdllm.component import SettingError
from fdllm.models import llada2
from fdllm.models.family import CheckpointError
from fdllm.reference import Reference
from fdllm.schedules.blocks import Blocks
from fdllm.testing import check_denoiser

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
# folder: overrides, the difference allowed; experts are summed in another order
GOLDENS = {
    "llada": ({}, 1e-6),
    "llada_tied": ({}, 1e-6),
    "dream": ({}, 1e-6),
    "sdar": ({}, 1e-6),
    "fdv2": ({}, 1e-6),
    "lladamoe": ({}, 5e-6),
    # blocks of 32 unless told otherwise
    "llada2": ({"block_length": 8}, 5e-6),
}


def golden(data, name):
    return fdllm.load(str(data / "families" / name), **GOLDENS[name][0])


def agrees_with_the_reference(model, num_new=8):
    """Uncached decoding of ragged rows, against one row at a time with whole forwards."""
    decoder = fdllm.compile(model, cache="none", max_new_tokens=num_new, block_length=4)
    prompts = [[7, 8, 9], [6], [10, 11, 12, 13, 14]]
    plain = Reference(model.logits, model.spec, decoder.parts.policy, decoder.plan.schedule, num_new)
    assert decoder.generate(prompts).tokens.tolist() == [plain.decode(prompt)[0] for prompt in prompts]


@pytest.mark.parametrize("name", GOLDENS)
def test_published_logits(data, name):
    reference = load_file(data / "families" / name / "reference.safetensors")
    assert (golden(data, name).logits(reference["ids"]) - reference["full"]).abs().max() <= GOLDENS[name][1]


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens_decode(data, name):
    agrees_with_the_reference(golden(data, name))


@pytest.mark.parametrize("name", ["sdar", "fdv2", "llada2"])
@pytest.mark.parametrize("policy", ["top-k", "threshold", "factor"])
def test_the_block_causal_cache_is_exact(data, name, policy):
    """Ragged prompts, one of them filling its blocks: equal to the uncached decoding, token for token."""
    how = {"policy": policy, "max_new_tokens": 21, "block_length": 4, "stop_at_eos": False}
    prompts = [[7, 8, 9], [6], list(range(10, 26)), [10, 11, 12, 13, 14]]
    model = golden(data, name)
    cached = fdllm.compile(model, cache="block-causal", **how).generate(prompts)
    whole = fdllm.compile(model, cache="none", **how).generate(prompts)
    assert torch.equal(cached.tokens, whole.tokens)
    assert cached.row_nfe == whole.row_nfe
    assert cached.stats.rows < whole.stats.rows / 2


@pytest.mark.parametrize("name", ["sdar", "fdv2", "lladamoe", "llada2"])
def test_goldens_hold_the_law_of_denoisers(data, name):
    check_denoiser(golden(data, name), vocabulary=96)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("llada", {"pattern": "full", "shift": False, "block_length": 32}),
        ("dream", {"pattern": "full", "shift": True}),
        ("sdar", {"pattern": "block-causal", "shift": False, "block_length": 4}),
        ("fdv2", {"pattern": "block-causal", "shift": True, "block_length": 8}),
        ("lladamoe", {"pattern": "full", "shift": False}),
        ("llada2", {"pattern": "block-causal", "shift": False, "block_length": 8}),
    ],
)
def test_conventions_of_goldens(data, name, facts):
    spec = golden(data, name).spec
    assert {key: getattr(spec, key) for key in facts} == facts
    assert (spec.mask_id, spec.eos_ids, spec.vocab_size, spec.context) == (3, (1,), 96, 256)


@pytest.mark.parametrize("name", ["lladamoe", "llada2"])
def test_experts_run_together_and_routers_stay_exact(data, name):
    module = fdllm.load(str(data / "families" / name), dtype="bfloat16").module
    assert module.config._experts_implementation == "grouped_mm"
    exact = [tensor for key, tensor in module.state_dict().items() if "e_score" in key]
    assert all(tensor.dtype == torch.float32 for tensor in exact) and len(exact) == (name == "llada2")


# families whose published code was not at hand: a checkpoint of the backbone under the published names

VOCABULARY = 272
TINY = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": True}
MADE = {
    "iLLaDA": ("LlamaForCausalLM", {"tie_word_embeddings": True}, {"layer_norm_eps": None, "resid_pdrop": 0.0}),
    "SDAR-30B-A3B-Chat-b8": ("Qwen3MoeForCausalLM", {"head_dim": 24, **EXPERTS}, {"num_local_experts": ..., **EXPERTS}),
    "TraDo-4B-Instruct": ("Qwen3ForCausalLM", {"head_dim": 24}, {"attn_implementation": "flex_attention"}),
    "Qwen3-diffusion-mdlm-v0.1": ("Qwen3ForCausalLM", {"head_dim": 8, "tie_word_embeddings": True}, {}),
    "Qwen3-diffusion-bd3lm-v0.1": ("Qwen3ForCausalLM", {"head_dim": 8, "tie_word_embeddings": True}, {}),
    "Qwen2.5-diffusion-mdlm-v0.1": ("Qwen2ForCausalLM", {}, {}),
    "Llama-diffusion-mdlm-v0.1": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}, {}),
    "open-dcoder-0.5B": ("Qwen2ForCausalLM", {"tie_word_embeddings": True}, {"layer_types": ["full_attention"] * 2}),
    "Stable-DiffCoder-8B-Base": (
        "LlamaForCausalLM",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        {},
    ),
}
ARCHITECTURES = {
    "iLLaDA": ("ILLaDAForCausalLM", "illada"),
    "SDAR-30B-A3B-Chat-b8": ("SDARMoeForCausalLM", "sdar_moe"),
    "TraDo-4B-Instruct": ("SDARForCausalLM", "sdar"),
    "Qwen3-diffusion-mdlm-v0.1": ("A2DQwen3LMHeadModel", "a2d-qwen3"),
    "Qwen3-diffusion-bd3lm-v0.1": ("A2DQwen3LMHeadModel", "a2d-qwen3"),
    "Qwen2.5-diffusion-mdlm-v0.1": ("A2DQwen2LMHeadModel", "a2d-qwen2"),
    "Llama-diffusion-mdlm-v0.1": ("A2DLlamaLMHeadModel", "a2d-llama"),
    "open-dcoder-0.5B": ("Qwen2ForCausalLM", "qwen2"),
    "Stable-DiffCoder-8B-Base": ("StableDiffcoderForCausalLM", "llama"),
}
# attention pattern, shift, block, mask id: 264 is the tokenizer's
FACTS = {
    "iLLaDA": ("full", False, 32, 5),
    "SDAR-30B-A3B-Chat-b8": ("block-causal", False, 8, 264),
    "TraDo-4B-Instruct": ("block-causal", False, 4, 264),
    "Qwen3-diffusion-mdlm-v0.1": ("full", False, 32, 264),
    "Qwen3-diffusion-bd3lm-v0.1": ("block-causal", False, 32, 264),
    "Qwen2.5-diffusion-mdlm-v0.1": ("full", False, 32, 264),
    "Llama-diffusion-mdlm-v0.1": ("full", False, 32, 264),
    "open-dcoder-0.5B": ("full", True, 32, 264),
    "Stable-DiffCoder-8B-Base": ("block-causal", False, 4, 5),
}
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|beginoftext|>", "<|mask|>")


def tokenizer_files(folder, **settings):
    """What a Qwen2 tokenizer is saved as: 260 byte-level tokens, then the special ones, the mask at 264."""
    pieces = [*sorted(ByteLevel.alphabet()), "he", "ll", "hell", "\u0120t"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\nh e\nl l\nhe ll\n\u0120 t\n")
    added = {str(260 + i): {"content": text, "special": True} for i, text in enumerate(SPECIAL)}
    named = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": SPECIAL[0], "mask_token": SPECIAL[-1], **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added, **named}))


def made(root, name, *, tokenizer=True):
    """Write a checkpoint as it is published, in a folder of its name; return the folder and the module.

    The tokenizers of iLLaDA and Stable-DiffCoder call nothing a mask, so theirs is left out.
    """
    folder = root / name
    backbone, sizes, published = MADE[name]
    kind = getattr(transformers, backbone)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind(kind.config_class(**{**TINY, **sizes})).eval()
        for weight in module.parameters():
            torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=weight.shape[-1] ** -0.5)
    module.save_pretrained(folder)
    architecture, model_type = ARCHITECTURES[name]
    own = {"architectures": [architecture], "model_type": model_type, "auto_map": {"AutoModel": "modeling.Remote"}}
    theta = module.config.rope_parameters["rope_theta"]
    edit(folder, rope_parameters=..., rope_theta=theta, rope_scaling=None, eos_token_id=260, **own, **published)
    if tokenizer and FACTS[name][-1] == 264:
        tokenizer_files(folder)
    return folder, module


def edit(folder, **changes):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


@torch.inference_mode()
def expected(module, ids, pattern, block_length):
    """Logits of the backbone under an explicit mask."""
    block = torch.arange(ids.shape[1]) // (ids.shape[1] if pattern == "full" else block_length)
    seen = (block <= block[:, None]).expand(len(ids), 1, -1, -1)
    return module(ids, attention_mask=seen).logits


@pytest.mark.parametrize("name", MADE)
def test_families_are_their_backbones(tmp_path, name):
    folder, module = made(tmp_path, name)
    model = fdllm.load(str(folder))
    spec = model.spec
    assert (spec.pattern, spec.shift, spec.block_length, spec.mask_id) == FACTS[name]
    assert (spec.vocab_size, spec.context) == (265 if spec.mask_id == 264 else VOCABULARY, 128)
    ids = torch.randint(0, VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(1))
    allowed = 5e-6 if "A3B" in name else 1e-6
    logits = expected(module, ids, spec.pattern, spec.block_length)
    assert logits.std() > 0.3
    assert (model.logits(ids) - logits).abs().max() <= allowed * logits.abs().max()
    agrees_with_the_reference(model)


def test_experts_are_published_one_by_one(tmp_path):
    folder, _ = made(tmp_path, "SDAR-30B-A3B-Chat-b8")
    assert "model.layers.0.mlp.experts.7.down_proj.weight" in load_file(folder / "model.safetensors")


def test_a_shipped_head_is_used_though_the_config_ties_it(tmp_path):
    """Checkpoints of A2D carry a head of their own under tie_word_embeddings = true."""
    folder, module = made(tmp_path, "Qwen3-diffusion-mdlm-v0.1")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    ids = torch.tensor([[5, 6, 7]])
    logits = expected(module, ids, "full", 32)
    assert (fdllm.load(str(folder)).logits(ids).flip(-1) - logits).abs().max() <= 1e-6 * logits.abs().max()


@pytest.mark.parametrize(
    ("name", "block_length"),
    [
        ("SDAR-1.7B-Chat", 4),
        ("SDAR-4B-Chat-b16", 16),
        ("runs-b2/SDAR-1.7B-Chat-b8", 8),
        ("runs-b2/SDAR-1.7B-Chat", 4),
        ("models--JetLM--SDAR-8B-Chat-b64/snapshots/1f2", 64),
    ],
)
def test_the_block_of_sdar_is_in_its_name(data, tmp_path, name, block_length):
    shutil.copytree(data / "families" / "sdar", tmp_path / name)
    assert fdllm.load(str(tmp_path / name)).spec.block_length == 4
    edit(tmp_path / name, block_size=...)
    assert fdllm.load(str(tmp_path / name)).spec.block_length == block_length
    assert fdllm.load(str(tmp_path / name), block_length=2).spec.block_length == 2


def test_a_folder_is_called_what_it_is_where_one_works_in_it(data, tmp_path, monkeypatch):
    shutil.copytree(data / "families" / "sdar", tmp_path / "SDAR-4B-Chat-b16")
    edit(tmp_path / "SDAR-4B-Chat-b16", block_size=...)
    monkeypatch.chdir(tmp_path / "SDAR-4B-Chat-b16")
    assert fdllm.load(".").spec.block_length == 16


def test_folders_above_do_not_say_the_pattern(tmp_path):
    (tmp_path / "bd3lm-runs").mkdir()
    folder, _ = made(tmp_path / "bd3lm-runs", "Qwen3-diffusion-mdlm-v0.1")
    assert fdllm.load(str(folder)).spec.pattern == "full"
    with pytest.raises(SettingError, match=r"model.pattern: .*x' does not say it"):
        fdllm.load(str(folder.rename(tmp_path / "bd3lm-runs" / "x")))


def test_the_pattern_can_be_given(tmp_path):
    folder = made(tmp_path, "Qwen3-diffusion-mdlm-v0.1")[0].rename(tmp_path / "tuned")
    with pytest.raises(SettingError, match=r"model.pattern: .*tuned' does not say it \(who attends to whom: full;"):
        fdllm.load(str(folder))
    spec = fdllm.load(str(folder), pattern="block-causal", block_length=16).spec
    assert (spec.pattern, spec.block_length) == ("block-causal", 16)
    assert fdllm.load(str(folder), pattern="full").spec.pattern == "full"
    with pytest.raises(SettingError, match="model.pattern: Input should be 'full', 'block-causal' or 'causal-prefix'"):
        fdllm.load(str(folder), pattern="causal")
    config = fdllm.DecodingConfig.from_dict({"model": {"path": str(folder), "pattern": "full"}})
    assert config.load_model().spec.pattern == "full"


def test_where_the_mask_id_comes_from(data, tmp_path):
    folder, _ = made(tmp_path, "open-dcoder-0.5B", tokenizer=False)
    with pytest.raises(
        SettingError,
        match=r"model.mask_id: .* does not say it .*; give it, as fdllm.load\(.*mask_id=.*\) or --set model.mask_id=",
    ):
        fdllm.load(str(folder))
    assert fdllm.load(str(folder), mask_id=9).spec.mask_id == 9
    edit(folder, mask_token_id=8)
    tokenizer_files(folder)
    assert fdllm.load(str(folder)).spec.mask_id == 8
    shutil.copytree(data / "families" / "sdar", tmp_path / "sdar")
    edit(tmp_path / "sdar", mask_token_id=None)
    with pytest.raises(SettingError, match="model.mask_id: 151669 is not among the 96 ids of"):
        fdllm.load(str(tmp_path / "sdar"))


def test_ends_are_a_union(tmp_path):
    """Config and generation config, tokenizer, and the end of a turn, which none of them calls eos."""
    folder, _ = made(tmp_path, "TraDo-4B-Instruct")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 260]}))
    assert fdllm.load(str(folder)).spec.eos_ids == (260, 7, 262)
    assert fdllm.load(str(folder), eos_ids=[7]).spec.eos_ids == (7,)


def test_the_tokenizer_of_dream_needs_no_remote_code(data, tmp_path):
    shutil.copytree(data / "families" / "dream", tmp_path / "dream")
    remote = {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}
    tokenizer_files(tmp_path / "dream", tokenizer_class="DreamTokenizer", auto_map=remote, bos_token=SPECIAL[3])
    weights = load_file(tmp_path / "dream" / "model.safetensors")
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[key] = weights[key].repeat(3, 1)[:VOCABULARY]
    save_file(weights, tmp_path / "dream" / "model.safetensors", {"format": "pt"})
    edit(
        tmp_path / "dream",
        vocab_size=VOCABULARY,
        mask_token_id=...,
        auto_map={"AutoModel": "modeling_dream.DreamModel"},
    )
    model = fdllm.load(str(tmp_path / "dream"))
    assert (model.spec.mask_id, model.spec.eos_ids, model.spec.vocab_size) == (264, (1, 260, 262), 265)
    assert model.tokenizer("hello the<|im_end|>").input_ids == [258, 78, 259, 256, 262]
    decoder = fdllm.compile(model, cache="none", max_new_tokens=8, block_length=4)
    assert torch.equal(decoder.generate("hello the").tokens, decoder.generate([[258, 78, 259, 256]]).tokens)


# what is refused


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("dream", {"use_mrope": True}, r"use_mrope = True \(only False is supported\)"),
        ("dream", {"use_sliding_window": True}, "use_sliding_window = True"),
        ("dream", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_scaling has rope_type 'yarn'"),
        ("dream", {"rope_theta": ...}, "'rope_theta' is missing"),
        ("dream", {"intermediate_size": ...}, "'intermediate_size' is missing"),
        ("dream", {"hidden_act": "gelu"}, r"hidden_act = 'gelu' \(only 'silu' is supported\)"),
        ("dream", {"hidden_size": "64"}, "hidden_size = '64' is no whole number of at least 1"),
        ("dream", {"num_key_value_heads": "2"}, "num_key_value_heads = '2' is no whole number of at least 1"),
        (
            "llada",
            {"n_heads": 3},
            "config.json: The hidden size .64. is not a multiple of the number of",
        ),
        ("llada", {"rope_theta": "big"}, "rope_theta = 'big' is no number"),
        ("fdv2", {"layer_types": ["full_attention", "sliding_attention"]}, r"layer_types has \['sliding_attention'\]"),
        ("fdv2", {"layer_types": 3}, r"layer_types has \['3'\] \(only 'full_attention' is supported\)"),
        ("llada2", {"partial_rotary_factor": [1]}, r"partial_rotary_factor = \[1\] is no number"),
        ("fdv2", {"num_hidden_layers": 3}, "missing: model.layers.2.input_layernorm.weight"),
        (
            "sdar",
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e6}},
            "rope_parameters has rope_type 'llam",
        ),
        ("sdar", {"attention_bias": True}, "missing: model.layers.0.self_attn.k_proj.bias"),
        ("sdar", {"head_dim": 16}, "of another shape: model.layers.0.self_attn.k_norm.weight"),
        ("lladamoe", {"qk_layernorm": False}, r"qk_layernorm = False \(only True is supported\)"),
        ("lladamoe", {"moe_router_score_function": "sigmoid"}, "moe_router_score_function = 'sigmoid'"),
        ("lladamoe", {"moe_router_enable_expert_bias": True}, "moe_router_enable_expert_bias = True"),
        ("lladamoe", {"shared_expert_intermediate_size": 64}, "shared_expert_intermediate_size = 64"),
        ("llada", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling has rope_type 'yarn'"),
        ("llada", {"layer_norm_with_affine": False}, r"layer_norm_with_affine = False \(only True is supported\)"),
        ("lladamoe", {"use_sliding_window": True}, "use_sliding_window = True"),
        ("lladamoe", {"num_shared_experts": 1}, r"num_shared_experts = 1 \(no shared expert is supported\)"),
        (
            "dream",
            {"quantization_config": {"quant_method": "fp8"}},
            r"quantization_config = {'quant_method': 'fp8'} \(no quantized weights are supported\); give the check",
        ),
        ("lladamoe", {"num_experts_per_tok": 9}, "num_experts_per_tok = 9 is more than num_experts = 8"),
        ("llada2", {"num_experts_per_tok": 17}, "num_experts_per_tok = 17 is more than num_experts = 16"),
        ("llada2", {"topk_group": 5}, "topk_group = 5 is more than n_group = 4"),
        ("llada2", {"n_group": 3}, "num_experts = 16 do not split into n_group = 3 groups of two or more"),
        ("llada2", {"n_group": 16}, "num_experts = 16 do not split into n_group = 16 groups of two or more"),
        ("llada", {"vocab_size": 200}, "config.json: vocab_size = 200 is more than embedding_size = 96"),
        ("llada", {"vocab_size": 200, "embedding_size": None}, "of another shape: lm_head.weight, model.embed_tokens"),
        ("llada", {"rope_theta": 0}, "rope_theta = 0 is not above 0"),
        ("dream", {"rope_theta": float("nan")}, "rope_theta = nan is not above 0"),
        *((name, {"rms_norm_eps": -1e-6}, "rms_norm_eps = -1e-06 is not above 0") for name in GOLDENS),
        ("lladamoe", {"clip_qkv": 8.0}, r"clip_qkv = 8.0 \(only None is supported\)"),
        ("lladamoe", {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ("lladamoe", {"routed_scaling_factor": 2.5}, "routed_scaling_factor = 2.5"),
        ("lladamoe", {"router_num_group": 4}, "router_num_group = 4"),
        ("lladamoe", {"moe_layer_freq": [1]}, r"moe_layer_freq = \[1\] is not one number for each of 2 layers"),
        ("lladamoe", {"moe_layer_freq": [0, 1]}, "missing: model.layers.0.mlp.down_proj.weight"),
        ("lladamoe", {"num_experts": 6}, "of another shape: model.layers.0.mlp.experts.down_proj"),
        ("llada2", {"use_qkv_bias": True}, r"use_qkv_bias = True \(only False is supported\)"),
        ("llada2", {"use_bias": True}, "use_bias = True"),
        ("llada2", {"score_function": "softmax"}, "score_function = 'softmax'"),
        ("llada2", {"norm_topk_prob": False}, "norm_topk_prob = False"),
        ("llada2", {"norm_head": True}, "norm_head = True"),
        ("llada2", {"moe_router_enable_expert_bias": False}, "moe_router_enable_expert_bias = False"),
        ("llada2", {"rotary_dim": 32}, r"rotary_dim = 32 \(only 16 is supported\)"),
        ("llada2", {"use_qk_norm": False}, "left over: model.layers.0.self_attn.k_norm.weight"),
        ("llada2", {"num_key_value_heads": 4}, "cannot load weights .*: they do not split or merge as its config says"),
    ],
)
def test_a_config_that_does_not_fit(data, tmp_path, name, changes, message):
    shutil.copytree(data / "families" / name, tmp_path / name)
    edit(tmp_path / name, **changes)
    with pytest.raises(CheckpointError, match=message):
        fdllm.load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("llada", "bias_for_layer_norm"),
        ("llada", "alibi"),
        ("dream", "use_sliding_window"),
        ("lladamoe", "routed_scaling_factor"),
    ],
)
def test_null_says_nothing(data, tmp_path, name, key):
    shutil.copytree(data / "families" / name, tmp_path / name)
    edit(tmp_path / name, **{key: None})
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(fdllm.load(str(tmp_path / name)).logits(ids), golden(data, name).logits(ids))


def test_more_experts_than_there_are(tmp_path):
    folder, _ = made(tmp_path, "SDAR-30B-A3B-Chat-b8")
    edit(folder, num_experts_per_tok=9)
    with pytest.raises(CheckpointError, match="num_experts_per_tok = 9 is more than num_experts = 8"):
        fdllm.load(str(folder))


def test_layer_norm_is_refused(tmp_path):
    folder, _ = made(tmp_path, "iLLaDA")
    edit(folder, layer_norm_eps=1e-5)
    with pytest.raises(CheckpointError, match=r"layer_norm_eps = 1e-05 \(only None is supported\)"):
        fdllm.load(str(folder))


@pytest.mark.parametrize(
    ("name", "lost", "shown"),
    [
        ("sdar", "model.layers.1.self_attn.q_norm.weight", "model.layers.1.self_attn.q_norm.weight"),
        ("llada2", "model.layers.1.mlp.gate.expert_bias", "model.layers.1.mlp.gate.e_score_correction_bias"),
        ("llada2", "model.layers.0.attention.query_key_value.weight", "model.layers.0.self_attn.k_proj.weight"),
    ],
)
def test_a_missing_tensor_is_an_error(data, tmp_path, name, lost, shown):
    shutil.copytree(data / "families" / name, tmp_path / name)
    weights = load_file(tmp_path / name / "model.safetensors")
    del weights[lost]
    save_file(weights, tmp_path / name / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"missing: {re.escape(shown)}"):
        fdllm.load(str(tmp_path / name))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
@pytest.mark.parametrize("shards", [False, True])
def test_weights_that_are_codes_are_an_error(data, tmp_path, dtype, shards):
    shutil.copytree(data / "families" / "sdar", tmp_path / "sdar")
    file, key = tmp_path / "sdar" / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    weights = load_file(file)
    weights[key] = weights[key].to(dtype)
    save_file(weights, file, {"format": "pt"})
    if shards:
        part = file.rename(file.with_name("model-00001-of-00001.safetensors")).name
        index = {"metadata": {}, "weight_map": dict.fromkeys(weights, part)}
        file.with_name("model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=rf"{re.escape(key)} of .* has dtype \w+8\w* \(only F64, F32"):
        fdllm.load(str(tmp_path / "sdar"))


def test_a_lost_expert_is_an_error(data, tmp_path):
    shutil.copytree(data / "families" / "lladamoe", tmp_path / "moe")
    weights = load_file(tmp_path / "moe" / "model.safetensors")
    del weights["model.layers.1.mlp.experts.7.down_proj.weight"]
    save_file(weights, tmp_path / "moe" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="down_proj"):
        fdllm.load(str(tmp_path / "moe"))


def test_llada2_says_which_transformers_it_needs(monkeypatch):
    monkeypatch.delattr(llada2.core_model_loading, "Split")
    with pytest.raises(CheckpointError, match=r"LLaDA2 needs transformers 5.20.2 or newer, not \d"):
        llada2.backbone.__wrapped__()


# the table


def test_every_family_can_be_compiled_as_its_authors_do(data):
    for name in registry.names("models"):
        said = registry.load("models", name).defaults
        decoder = fdllm.compile(golden(data, "llada"), max_new_tokens=8, **(said({}) if callable(said) else said))
        assert decoder.generate([[5, 6]]).tokens.shape == (1, 8)


@pytest.mark.parametrize(
    ("name", "recommended", "parts"),
    [
        ("llada", "policy", ("NoCache()", "Threshold(threshold=0.9)", "Blocks(block_length=32)")),
        ("lladamoe", "policy", ("NoCache()", "TopK(k=1,", "Blocks(block_length=32)")),
        ("sdar", "cache, policy", ("BlockCausal()", "Threshold(threshold=0.9)", "Blocks(block_length=4)")),
        (
            "fdv2",
            "block_length, cache, policy",
            ("BlockCausal()", "Threshold(threshold=0.9)", "Blocks(block_length=8)"),
        ),
        ("llada2", "cache, policy", ("BlockCausal()", "Threshold(threshold=0.95)", "Blocks(block_length=8)")),
    ],
)
def test_what_is_left_out_is_as_the_authors_recommend(data, name, recommended, parts):
    model = golden(data, name)
    text = fdllm.compile(model).explain()
    assert f"as the model recommends: {recommended}\n" in text
    for part in parts:
        assert f": {part}" in text
    told = fdllm.compile(model, policy="top-k", cache="none", block_length=2, temperature=0.5)
    assert told.plan.recommended == ()
    assert told.explain().splitlines()[2:5] == [
        "schedule: Blocks(block_length=2)",
        "cache: NoCache()",
        "policy: " + repr(told.parts.policy),
    ]


def test_a_schedule_that_says_its_blocks_is_not_overruled(data):
    small = fdllm.load(str(data / "families" / "fdv2"), block_length=4)
    assert fdllm.compile(small).plan.schedule.block_length == 4
    model = golden(data, "fdv2")
    assert fdllm.compile(model, schedule={"name": "blocks", "block_length": 4}).plan.schedule.block_length == 4
    assert fdllm.compile(model, schedule=Blocks(block_length=2)).plan.schedule.block_length == 2
    assert fdllm.compile(model, schedule="blocks").plan.schedule.block_length == 8


def test_a_config_leaves_to_the_model_what_it_does_not_say(data):
    tables = {"model": {"path": str(data / "families" / "sdar")}, "generate": {"max_new_tokens": 8}}
    decoder = fdllm.DecodingConfig.from_dict(tables).compile()
    assert repr(decoder.plan.cache) == "BlockCausal()"
    decoder = fdllm.DecodingConfig.from_dict({**tables, "cache": {"name": "none"}}).compile()
    assert decoder.plan.recommended == ("policy",)


def test_a_family_can_be_named_or_handed_over(data):
    folder = str(data / "families" / "dream")
    assert not fdllm.load(folder, family="A2DQwen2LMHeadModel", pattern="full").spec.shift
    with pytest.raises(CheckpointError, match="model.family: no model family named 'Dreem'. Installed: A2DLlama"):
        fdllm.load(folder, family="Dreem")
    tables = {"model": {"path": folder, "family": "A2DQwen2LMHeadModel", "pattern": "full"}}
    assert not fdllm.DecodingConfig.from_dict(tables).load_model().spec.shift


# docs/models.md


def test_the_model_on_the_page_decodes(capsys):
    exec(compile(fenced("python")["own.py"], "own.py", "exec"), {})
    assert "tensor" in capsys.readouterr().out


def fenced(language):
    """The fenced blocks of the page, by the file named on their first line."""
    found = re.findall(rf"^```{language}\n# (\S+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(found)


def test_the_page_lists_every_family():
    rows = {}
    for line in PAGE.read_text().partition("## Families")[2].partition("| family |")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7:
            rows |= {name: (cells[0], *cells[2:]) for name in re.findall(r"`(\w+)`", cells[1])}
    ours = {name for name, entry in registry.names("models").items() if entry.module_name.startswith("fdllm.")}
    large = {"vocab_size": 10**6, "max_position_embeddings": 8, "max_sequence_length": 8, "canvas_length": 256}
    large["text_config"] = large
    for name in ours:
        family = registry.load("models", name)
        backbone = family.backbone if isinstance(family.backbone, str) else family.backbone().__base__.__name__
        spec = {"pattern": "full", "shift": False, **family.spec(large)}
        shown = (f"`{backbone}`", spec["pattern"] or "by name", "yes" if spec["shift"] else "no")
        mask = "none" if spec.get("noise") == "uniform" else str(spec["mask_id"] or "tokenizer")
        assert rows.pop(name) == (family.about, *shown, mask, str(spec["block_length"]))
    assert rows == {}


@pytest.fixture
def lily(tmp_path, monkeypatch):
    """The family of the page as an installed package, beside a tiny checkpoint in its layout."""
    for name, text in fenced("python").items():
        (tmp_path / name).write_text(text)
    (entry,) = re.findall(r'^(\w+) = "(.+)"$', fenced("toml")["pyproject.toml"], re.MULTILINE)
    (tmp_path / "lily-1.0.dist-info").mkdir()
    metadata = tmp_path / "lily-1.0.dist-info" / "entry_points.txt"
    metadata.write_text("[fdllm.models]\n{} = {}\n".format(*entry))
    folder, module = made(tmp_path, "TraDo-4B-Instruct", tokenizer=False)
    folder = folder.rename(tmp_path / "lily-tiny")
    weights = load_file(folder / "model.safetensors")
    renamed = {re.sub(r"^model\.", "decoder.", key): tensor for key, tensor in weights.items()}
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    edit(folder, architectures=[entry[0]], intermediate_size=..., ffn_size=48, diffusion_block=8)
    ids = torch.arange(60).view(2, 30)
    save_file({"ids": ids, "logits": expected(module, ids, "block-causal", 8)}, folder / "reference.safetensors")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    registry.names.cache_clear()
    yield {}
    monkeypatch.undo()
    registry.names.cache_clear()
    registry.load.cache_clear()


def test_the_family_on_the_page_loads(lily):
    exec(compile(fenced("python")["test_lily.py"], "test_lily.py", "exec"), lily)
    tests = [lily[name] for name in lily if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()
    spec = fdllm.load("lily-tiny").spec
    assert (spec.mask_id, spec.shift, spec.pattern, spec.block_length) == (7, True, "block-causal", 8)
    from lily import LILY

    edit(Path("lily-tiny"), architectures=["Rose"], num_memory_tokens=4)
    with pytest.raises(CheckpointError, match=r"num_memory_tokens = 4 \(only 0 is supported\)"):
        fdllm.load("lily-tiny", family=LILY)
