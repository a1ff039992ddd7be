"""Model arguments and generation arguments: what they add up to, and what is refused."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from fdllm_lm_eval import settings, wishes
from fdllm_lm_eval.decoders import Decoders
from fdllm_lm_eval.model import FdllmLM
from lm_eval._cli import HarnessCLI
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.tasks import TaskManager
from lm_eval.utils import simple_parse_args_string

import fdllm
from fdllm.config import DecodingConfig
from fdllm.models.files import BUILT_IN


def test_short_keys_are_those_of_the_first_table_that_has_them():
    given = {"path": "tiny", "device": "cpu", "cache": "dual", "policy": "top-k", "k": 2, "block_length": 8, "seed": 3}
    config, how = settings.read({**given, "max_new_tokens": 16, "model.block_length": 4, "mc_samples": 5})
    assert config.to_dict() == {
        "model": {"path": "tiny", "device": "cpu", "block_length": 4},
        "generate": {"max_new_tokens": 16, "block_length": 8, "seed": 3},
        "schedule": {"name": "blocks"},
        "cache": {"name": "dual"},
        "policy": {"name": "top-k", "k": 2},
    }
    assert how.mc_samples == 5


def test_a_file_comes_first_and_keys_change_it(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('[model]\npath = "tiny"\n[policy]\nname = "threshold"\nthreshold = 0.9\n')
    assert settings.read({"config": str(file)})[0] == DecodingConfig.from_file(file)
    changed, _ = settings.read({"config": str(file), "threshold": 0.5, "cache": None, "temperature": 0.5})
    assert changed.policy.threshold == 0.5 and changed.generate.temperature == 0.5
    assert changed.to_dict()["cache"] == {"name": "none"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"treshold": 0.9}, "model_args.treshold: no such key; did you mean 'threshold'"),
        (
            {"xyz": 1},
            "model_args.xyz: no such key; known keys: add_bos, attention, block_length, .*, and table.key",
        ),
        ({"policy": "top-k", "threshold": 0.9}, "model_args.threshold: no such key"),
        ({"policy.treshold": 0.9}, "policy.treshold: no such key; did you mean 'threshold'"),
        ({"policy": "bold"}, r"policy: no policy named 'bold'. Installed: .*threshold, top-k"),
        ({"threshold": "high"}, "policy.threshold: .*'high'"),
        ({"mc_samples": 0}, "model_args.mc_samples: .* greater than or equal to 1, got 0"),
        ({"config": "nowhere.toml"}, "nowhere.toml: cannot be read"),
    ],
)
def test_wrong_model_arguments_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        settings.read(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": "auto"}, "batch_size: wanted a whole number of at least 1, .* got batch_size = 'auto'"),
        ({"batch_size": 0}, "batch_size: wanted a whole number of at least 1"),
        ({"max_batch_size": 8}, "batch_size: .* got batch_size = 1 and max_batch_size = 8"),
    ],
)
def test_a_search_for_a_batch_size_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        FdllmLM(path="tiny", **given)


def test_a_model_without_a_tokenizer_is_refused(tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(BUILT_IN["tiny"] / name, tmp_path)
    with pytest.raises(ValueError, match="has no tokenizer, and tasks are text; give one that has"):
        FdllmLM(path=str(tmp_path))


def test_the_device_among_the_model_arguments_stands_above_that_of_the_harness():
    harness = {"device": "cuda:0", "batch_size": "2", "max_batch_size": None}
    # what the harness passes unasked is no wish
    assert FdllmLM.create_from_arg_obj({"path": "tiny"}, harness).config.model.device == "auto"
    assert FdllmLM.create_from_arg_string("path=tiny,device=cpu", harness).device.type == "cpu"
    assert FdllmLM.create_from_arg_string("path=tiny", {"device": "cpu"}).config.model.device == "cpu"


@pytest.mark.parametrize(
    ("given", "wish"),
    [
        ({}, (None, None, None, None)),
        ({"until": "x", "do_sample": False}, (None, 0.0, None, None)),
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.9}, (None, 0.0, None, None)),
        ({"temperature": 0.7, "top_p": 0.9, "max_gen_toks": 40}, (40, 0.7, 0.9, None)),
        ({"do_sample": True, "top_k": 5, "num_beams": 1}, (None, 1.0, None, 5)),
        ({"max_new_tokens": 12}, (12, None, None, None)),
    ],
)
def test_generation_arguments_become_settings(given, wish):
    assert wishes.read(given)[0] == wish


def test_bounds_hold_where_the_config_samples():
    for temperature in (0.7, 0.0):
        tables = {"model": {"device": "cpu"}, "generate": {"temperature": temperature}}
        decoder, _ = Decoders(DecodingConfig.from_dict(tables)).of(wishes.read({"until": "x", "top_p": 0.9})[0])
        assert ("top_p=0.9" in decoder.record()["sampling"]) == (temperature > 0)


def test_a_text_of_no_length_is_refused():
    with pytest.raises(ValueError, match=r"gen_kwargs\.max_gen_toks: wanted at least 1, got 0"):
        wishes.read({"max_gen_toks": 0})


def test_an_unknown_generation_argument_is_named():
    with pytest.raises(
        ValueError, match=r"gen_kwargs.num_beams: no such key, got 4; known keys: until, do_sample, temp"
    ):
        wishes.read({"num_beams": 4})


def test_a_text_is_cut_before_the_first_end():
    assert wishes.cut("a Q: b\n\nc", ["\n\n", "Q:"]) == "a "
    assert wishes.cut("a", ["Q:"]) == "a"
    assert wishes.read({"until": ["", "Q:"]})[1] == ("Q:",)


# docs/evaluation.md

PAGE = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Work in a folder with the config files of the page."""
    for name, text in re.findall(r"```toml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)


def test_the_commands_on_the_page_are_understood(files, monkeypatch):
    tasks = TaskManager().all_tasks
    commands = re.findall(r"(?<=fdllm-lm-eval )--model fdllm .*", PAGE.replace("\\\n", ""))
    assert len(commands) == 9
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["fdllm-lm-eval", *shlex.split(command)])
        told = EvaluatorConfig.from_cli(HarnessCLI().parse_args())
        assert told.model == "fdllm" and set(told.tasks) <= set(tasks)
        config, options = settings.read(told.model_args)
        assert options.add_bos == ("Dream" in config.model.path)
        assert wishes.read(told.gen_kwargs)[0].max_gen_toks in (None, 256)
        assert ("humaneval" in command) == ("max_gen_toks" in command)


def test_every_row_of_the_paper_compiles(files):
    model = fdllm.load("tiny")
    rows = re.findall(r"^\| [^|]+ \| `(cache=[^`]+)` \| `(cache=[^`]+)` \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for llada, dream in rows:
        for file, told in (("llada.toml", llada), ("dream.toml", dream)):
            pairs = simple_parse_args_string(f"config={file},{told}")
            decoder = settings.read(pairs)[0].compile(model)
            assert decoder.plan.cache.registered_name("caches") == (pairs["cache"] or "none")
            assert decoder.plan.max_new_tokens == 256
            assert decoder.plan.schedule.block_length == pairs.get("block_length", 32)
