"""`fdllm convert`: the same model under the names of its backbone, whole or not at all."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_families import MADE, made, tokenizer_files

import fdllm
from fdllm.cli.main import run
from fdllm.component import SettingError
from fdllm.models.convert import convert
from fdllm.models.family import CheckpointError

GOLDENS = ("llada", "llada_tied", "dream", "sdar", "fdv2", "lladamoe", "llada2")
IDS = torch.arange(5, 53).view(2, 24)


def edit(folder, **changes):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def same(source, target, **how):
    """Convert and load again; give both models once they are found to be the same."""
    convert(source, target, **how)
    before, after = fdllm.load(source, device="cpu", **how), fdllm.load(str(target), device="cpu")
    assert torch.equal(before.logits(IDS), after.logits(IDS))
    assert (before.spec, before.dtype) == (after.spec, after.dtype)
    return before, after


@pytest.mark.parametrize("name", GOLDENS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_published_models_keep_every_bit(data, tmp_path, name, dtype):
    same(str(data / "families" / name), tmp_path / "native", dtype=dtype)


@pytest.mark.parametrize("name", MADE)
def test_every_backbone_keeps_every_bit(tmp_path, name):
    folder, _ = made(tmp_path, name)
    before, after = same(str(folder), tmp_path / "native")
    _, again = same(str(tmp_path / "native"), tmp_path / "again")
    assert again.spec == before.spec and torch.equal(again.logits(IDS), after.logits(IDS))


def test_the_built_in_model_and_its_tokenizer(tmp_path):
    before, after = same("tiny", tmp_path / "native")
    question = "Question: Ben has 12 plums."
    assert before.tokenizer(question).input_ids == after.tokenizer(question).input_ids
    texts = [fdllm.compile(model, max_new_tokens=12).generate(question).text for model in (before, after)]
    assert texts[0] == texts[1]


def test_what_was_given_is_written(data, tmp_path):
    """Conventions that stood above the checkpoint, or came from its name, are its own now."""
    given = {"block_length": 8, "mask_id": 7, "eos_ids": (9, 8), "vocab_size": 90, "context": 64}
    spec = same(str(data / "families" / "llada2"), tmp_path / "llada2", **given)[1].spec
    assert {key: getattr(spec, key) for key in given} == given and spec.pattern == "block-causal"
    assert fdllm.load(str(tmp_path / "llada2"), block_length=2, eos_ids=4).spec.eos_ids == (4,)
    shutil.copytree(data / "families" / "sdar", tmp_path / "SDAR-4B-Chat-b16")
    edit(tmp_path / "SDAR-4B-Chat-b16", block_size=...)
    assert same(str(tmp_path / "SDAR-4B-Chat-b16"), tmp_path / "other")[1].spec.block_length == 16


def test_ends_of_a_text_and_generation_config_are_kept(tmp_path):
    folder, _ = made(tmp_path, "TraDo-4B-Instruct")
    # transformers refuses to write such a thing
    published = {"eos_token_id": [7, 260], "do_sample": False, "temperature": 0.7}
    (folder / "generation_config.json").write_text(json.dumps(published))
    assert same(str(folder), tmp_path / "native")[1].spec.eos_ids == (260, 7, 262)
    assert json.loads((tmp_path / "native" / "generation_config.json").read_text()) == published


def test_a_tokenizer_that_needed_remote_code(data, tmp_path):
    shutil.copytree(data / "families" / "dream", tmp_path / "dream")
    remote = {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}
    tokenizer_files(tmp_path / "dream", tokenizer_class="DreamTokenizer", auto_map=remote)
    before, after = same(str(tmp_path / "dream"), tmp_path / "native")
    text = "hello the<|im_end|>"
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path / "native")
    assert before.tokenizer(text).input_ids == after.tokenizer(text).input_ids == plain(text).input_ids


def test_a_shipped_head_is_kept_though_the_config_ties_it(tmp_path):
    folder, _ = made(tmp_path, "Qwen3-diffusion-mdlm-v0.1")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    module = same(str(folder), tmp_path / "native")[1].module
    assert torch.equal(module.lm_head.weight, module.model.embed_tokens.weight.flip(0))


@pytest.mark.parametrize("name", ["llada", "dream", "lladamoe"])
def test_transformers_alone_loads_it(data, tmp_path, name):
    """Bidirectional, for its config says so; experts lie elsewhere in memory, and are summed in another order."""
    model = same(str(data / "families" / name), tmp_path / "native")[1]
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "native").eval()
    assert json.loads((tmp_path / "native" / "config.json").read_text())["architectures"] == [type(plain).__name__]
    with torch.inference_mode():
        assert (plain(IDS).logits - model.logits(IDS)).abs().max() <= (5e-6 if "moe" in name else 0)


def test_llada2_goes_by_the_name_of_its_backbone(data, tmp_path):
    same(str(data / "families" / "llada2"), tmp_path / "native")
    config = json.loads((tmp_path / "native" / "config.json").read_text())
    assert config["architectures"] == ["Glm4MoeForCausalLM"]
    assert config["fdllm"]["architecture"] == "LLaDA2MoeModelLM"
    assert "model.layers.0.self_attn.q_proj.weight" in load_file(tmp_path / "native" / "model.safetensors")


# what is refused


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, r"fdllm.architecture: required, add it\n.*fdllm.spec: required, add it; convert the checkpoint again"),
        (3, "fdllm: wanted a table, got 3"),
        ({"architecture": "DreamModel", "spec": {"mask_id": -1}}, "fdllm.spec.mask_id: .*greater than or equal to 0"),
        ({"architecture": "DreamModel", "spec": {"mask_id": 3}, "x": 1}, "fdllm.x: no such key"),
        ({"architecture": "Dreem", "spec": {"mask_id": 3}}, "no model family named 'Dreem'"),
    ],
)
def test_a_broken_note_is_named(data, tmp_path, said, message):
    convert(str(data / "families" / "dream"), tmp_path / "native")
    edit(tmp_path / "native", fdllm=said)
    with pytest.raises(CheckpointError, match=message):
        fdllm.load(str(tmp_path / "native"))


def test_nothing_is_written_over(data, tmp_path):
    source, target = str(data / "families" / "dream"), tmp_path / "native"
    target.mkdir()
    convert(source, target)
    before = sorted((path, path.read_bytes()) for path in target.iterdir())
    with pytest.raises(SettingError, match="native: there is something of that name; give a folder that is absent or"):
        convert(source, target)
    assert sorted((path, path.read_bytes()) for path in target.iterdir()) == before
    with pytest.raises(SettingError, match="config.json: there is something of that name"):
        convert(source, target / "config.json")
    with pytest.raises(SettingError, match="x: cannot be written: No such file or directory"):
        convert(source, tmp_path / "absent" / "x")
    (tmp_path / "other.part").mkdir()
    with pytest.raises(SettingError, match=r"other.part: another convert writes it, or was killed; wait for it or"):
        convert(source, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["native", "other.part"]


def test_a_source_that_cannot_be_loaded_leaves_nothing(data, tmp_path):
    shutil.copytree(data / "families" / "dream", tmp_path / "dream")
    (tmp_path / "dream" / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="cannot load weights"):
        convert(str(tmp_path / "dream"), tmp_path / "native")
    assert [path.name for path in tmp_path.iterdir()] == ["dream"]


def test_a_full_disk_leaves_nothing(data, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(SettingError, match=r"native: cannot be written: .*File too large"):
            convert(str(data / "families" / "llada2"), tmp_path / "native")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_convert_leaves_no_target(data, tmp_path):
    source, target = str(data / "families" / "llada2"), tmp_path / "native"
    command = [sys.executable, "-m", "fdllm.cli.main", "convert", source, str(target)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (tmp_path / "native.part").exists():
        assert process.poll() is None and time.monotonic() < end, "it ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["native.part"]


def test_the_command(data, tmp_path, capsys):
    target = tmp_path / "native"
    source = str(data / "families" / "llada2")
    assert run(["convert", source, str(target), "--set", "model.block_length=8", "--set", "model.dtype=bfloat16"]) == 0
    assert capsys.readouterr().err == f"{target}: 0.4 MB of weights\n"
    model = fdllm.load(str(target))
    assert (model.spec.block_length, model.dtype) == (8, torch.bfloat16)


def test_the_command_takes_the_class_of_a_fine_tune(data, tmp_path):
    tuned, target = tmp_path / "tuned", str(tmp_path / "native")
    shutil.copytree(data / "families" / "dream", tuned)
    edit(tuned, architectures=["OurModel"])
    assert run(["convert", str(tuned), target, "--set", "model.family=DreamModel"]) == 0
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(fdllm.load(target).logits(ids), fdllm.load(str(data / "families" / "dream")).logits(ids))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{source}"], "Missing argument 'TARGET'"),
        (["./absent", "{target}"], "model.path: cannot find config.json of './absent'"),
        (["{source}", "{tmp}"], "there is something of that name; give a folder that is absent or empty"),
        (["{source}", "{target}", "--set", "policy.threshold=0.5"], "policy.threshold: is not written into a check"),
        (["{source}", "{target}", "--set", "model.tp=2"], "model.tp: is not written into a checkpoint; --set takes "),
        (["{source}", "{target}", "--set", "model.mask_id=500"], "model.mask_id: 500 is not among the 96 ids"),
        (["{source}", "{target}", "--set", "model.blok_length=5"], "model.blok_length: no such key; did you mean"),
    ],
)  # fmt: skip
def test_wrong_arguments(data, tmp_path, capsys, arguments, message):
    (tmp_path / "something").write_text("")
    named = {"{source}": str(data / "families" / "dream"), "{target}": str(tmp_path / "native"), "{tmp}": str(tmp_path)}
    assert run(["convert", *(named.get(each, each) for each in arguments)]) == 2
    out, error = capsys.readouterr()
    assert message in " ".join(error.split()) and "Traceback" not in error and out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["something"]
