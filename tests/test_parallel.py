"""Tensor parallel: two processes that share a model decode what one decodes, in lockstep; what cannot be shared."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from parallel_worker import decoded, decoded_in_triton
from safetensors.torch import load_file, save_file

import fdllm
from fdllm.cli.main import run
from fdllm.component import SettingError
from fdllm.models.convert import convert
from fdllm.models.family import CheckpointError, Family

WORKER = Path(__file__).parent / "parallel_worker.py"
PROMPTS = [[7, 8, 9], [6], [10, 11, 12, 13, 14]]
# K/V heads, the cache that suits it
SHARED = {"llada": (4, "dual"), "llada_tied": (2, "prefix"), "dream": (2, "dual"), "sdar": (2, "block-causal"),
          "lladamoe": (4, "dual"), "llada2": (2, "block-causal")}  # fmt: skip
SHORT = ["--set", "generate.max_new_tokens=8"]


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def jsonl(path, prompts):
    path.write_text("".join(json.dumps({"prompt_ids": ids}) + "\n" for ids in prompts))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def paths(data, folder):
    """The checkpoints to share; LLaDA2 was converted."""
    convert(str(data / "families" / "llada2"), folder / "llada2", block_length=8)
    return {name: str((folder if name == "llada2" else data / "families") / name) for name in SHARED}


@pytest.fixture(scope="module")
def shared(data, paths, folder):
    """Start two processes once; give what each found and what both printed."""
    lost = folder / "lost"
    shutil.copytree(data / "families" / "sdar", lost)
    weights = load_file(lost / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, lost / "model.safetensors", {"format": "pt"})
    few, all_ = jsonl(folder / "few.jsonl", PROMPTS[:2]), jsonl(folder / "all.jsonl", PROMPTS)
    output = str(folder / "out.jsonl")
    generate = ["generate", "--model", paths["llada"], "--set", "model.tp=2", *SHORT]
    job = {
        "prompts": PROMPTS,
        "models": {name: {"path": paths[name], "cache": cache} for name, (_, cache) in SHARED.items()},
        "refused": {"lost": str(lost)},
        "commands": [
            [*generate, "--prompts", all_, "--json"],
            [*generate, "--prompts", few, "--output", output],
            [*generate, "--prompts", all_, "--output", output, "--json"],
            [*generate, "--prompts", all_, "--output", str(folder / "absent" / "out.jsonl")],
        ],
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command += [str(WORKER), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]
    return ranks, done


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_decode_what_one_decodes(shared, paths, name):
    model = fdllm.load(paths[name], device="cpu")
    alone = decoded(model, SHARED[name][1], PROMPTS)
    first, second = (rank["models"][name] for rank in shared[0])
    assert first["tokens"] == alone["tokens"] and first["nfe"] == alone["nfe"]
    assert len({str(tokens) for tokens in first["tokens"]}) == 2
    # shares add up in another order than the whole
    whole = model.logits(torch.tensor(PROMPTS[:1]))
    assert (torch.tensor(first["logits"]) - whole).abs().max() <= 1e-5
    assert second["tokens"] == first["tokens"] and second["nfe"] == first["nfe"]


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_keep_their_own_attention_beside_kernels_in_triton(shared, paths, name):
    """Parts of a shared model have a forward of their own, so it is not rebuilt."""
    alone = decoded_in_triton(fdllm.load(paths[name], device="cpu"), SHARED[name][1], PROMPTS)
    assert alone["chosen"]
    for rank in shared[0]:
        found = rank["models"][name]["triton"]
        assert found["tokens"] == alone["tokens"] and not found["chosen"]


@pytest.mark.parametrize("name", SHARED)
def test_every_process_has_all_logits_to_the_bit_and_half_of_the_heads(shared, paths, name):
    first, second = (rank["models"][name] for rank in shared[0])
    assert first["bits"] == second["bits"] and len(first["logits"][0][0]) == 96
    rows = fdllm.load(paths[name], device="cpu").module.model.layers[0].self_attn.q_proj.weight.shape[0]
    for each in (first, second):
        assert (each["tp"], each["heads"], each["query"][0]) == (2, SHARED[name][0] // 2, rows // 2)


def test_the_first_process_prints_and_writes_each_line_once(shared, paths, folder, capsys):
    ranks, done = shared
    assert [rank["codes"] for rank in ranks] == [[0, 0, 0, 2]] * 2
    alone = fdllm.compile(fdllm.load(paths["llada"], device="cpu"), max_new_tokens=8).generate(PROMPTS)
    *printed, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["tokens"] for line in printed] == alone.completions
    assert all(line["record"]["tp"] == "2" for line in printed)
    assert (summary["rows"], summary["resumed"]) == (3, 2)
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [(row["index"], row["tokens"]) for row in rows] == list(enumerate(alone.completions))
    # an error is everybody's, so that nobody waits
    assert done.stderr.count("absent/out.jsonl: cannot be written: No such file or directory") == 2


def test_missing_weights_are_missed_by_every_process(shared):
    said = "do not fit its config; missing: model.layers.1.self_attn.q_proj.weight"
    assert all(said in rank["refused"]["lost"] for rank in shared[0])


# what is refused, before anything is read


@pytest.fixture
def two(monkeypatch):
    """As `torchrun` tells a process that it is one of two."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def load(data, name="llada", **how):
    return fdllm.load(str(data / "families" / name), tp=2, **how)


def test_one_process_cannot_share(data, capsys):
    with pytest.raises(
        SettingError,
        match="model.tp: wanted 2 processes, 1 run; start them with `torchrun --nproc-per-node 2 --no-python fdllm",
    ):
        load(data)
    where = ["--model", str(data / "families" / "llada"), "--set", "model.tp=2", *SHORT]
    assert run(["generate", *where, "--prompt-ids", "[5]"]) == 2
    assert "model.tp: wanted 2 processes, 1 run" in capsys.readouterr().err
    # a step is explained without them
    assert run(["explain", *where]) == 0


def test_more_processes_than_asked_for(data, two):
    with pytest.raises(SettingError, match="model.tp: wanted 4 processes, 2 run"):
        fdllm.load(str(data / "families" / "llada"), tp=4)
    assert fdllm.load(str(data / "families" / "llada")).tp == 1


@pytest.mark.parametrize("tp", [0, -1, 1.0, "2", True])
def test_a_number_of_processes_that_is_none(data, tp):
    with pytest.raises(SettingError, match="model.tp: wanted a whole number of at least 1, got"):
        fdllm.load(str(data / "families" / "llada"), tp=tp)
    if not isinstance(tp, bool):
        with pytest.raises(SettingError, match="model.tp: "):
            fdllm.DecodingConfig.from_dict({"model": {"tp": tp}})


def test_a_device_of_another_kind(data, two):
    with pytest.raises(SettingError, match="model.device: 'cuda:1', but 2 processes take cpu by their rank; leave it"):
        load(data, device="cuda:1")


def test_accelerate_is_needed(data, two, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(SettingError, match=r"model.tp: needs accelerate; pip install 'fdllm\[tp\]', or leave tp out"):
        load(data)


def test_fused_weights_are_converted_first(data, two):
    with pytest.raises(CheckpointError, match="model.tp: .* published fused, .* `fdllm convert .*llada2 TARGET`"):
        load(data, "llada2")


def test_heads_that_do_not_divide(data, tmp_path, two):
    shutil.copytree(data / "families" / "llada_tied", tmp_path / "llada")
    edit(tmp_path / "llada", n_kv_heads=1)
    with pytest.raises(CheckpointError, match="2 processes cannot share the 1 K/V heads of .*llada'; give one of 1$"):
        fdllm.load(str(tmp_path / "llada"), tp=2)


def test_experts_that_do_not_divide(data, tmp_path, two):
    shutil.copytree(data / "families" / "lladamoe", tmp_path / "moe")
    edit(tmp_path / "moe", expert_intermediate_size=45)
    with pytest.raises(CheckpointError, match="cannot share the 4 K/V heads and experts of width 45 of"):
        fdllm.load(str(tmp_path / "moe"), tp=2)


def test_a_backbone_without_a_plan(data, two):
    family = Family(
        about="OPT",
        backbone="OPTForCausalLM",
        settings=lambda config: {"vocab_size": 96},
        spec=lambda config: {"mask_id": 3, "vocab_size": 96},
    )
    assert not transformers.OPTConfig.base_model_tp_plan
    with pytest.raises(CheckpointError, match="model.tp: OPTForCausalLM has no tp_plan in transformers; leave tp out"):
        load(data, family=family)


def test_stdin_cannot_be_shared(data, capsys):
    assert run(["generate", "--model", str(data / "families" / "llada"), "--set", "model.tp=2"]) == 2
    said = "stdin: 2 processes cannot share it; give --prompt, --prompt-ids or --prompts"
    assert said in capsys.readouterr().err
