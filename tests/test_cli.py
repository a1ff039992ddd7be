"""The command line: what it prints, what it writes, how it ends."""
# ruff: noqa: E501 - a case of wrong input is one line

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdllm import registry
from fdllm.cli import main as command_line
from fdllm.cli.main import run
from fdllm.cli.output import Output
from fdllm.cli.prompts import Prompt
from fdllm.component import SettingError

PROCESS = [sys.executable, "-m", "fdllm.cli.main"]
# one thread, as the tests themselves
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SHORT = ["--set", "generate.max_new_tokens=8"]


@pytest.fixture
def llada(data):
    return ["--model", str(data / "families" / "llada")]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt_ids": [5 + i, 6, 7][: 1 + i % 3], "id": f"p{i}"}) + "\n" for i in range(9))
    )
    return path


def sampled(llada, prompts, output, batch_size):
    """Name a run whose tokens depend on each row's noise."""
    drawn = ["--set", "generate.temperature=0.9", "--set", "policy=top-k", "--seed", "7"]
    files = ["--prompts", str(prompts), "--output", str(output)]
    return ["generate", *llada, *SHORT, *drawn, *files, "--batch-size", str(batch_size)]


# what it prints


def test_ids_in_ids_out(llada, capsys):
    assert run(["generate", *llada, *SHORT, "--prompt-ids", "[5, 6]"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 8


def test_json_for_machines(llada, capsys):
    assert run(["generate", *llada, *SHORT, "--prompt-ids", "[5, 6]", "--json", "--seed", "3"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["text"] is None and found["visible_tokens"] == len(found["tokens"])
    assert found["nfe"] == found["stats"]["nfe"] == sum(found["stats"]["forwards"].values())
    assert found["record"]["policy"] == "Threshold(threshold=0.9)" and found["record"]["seed"] == "3"


def test_lines_of_stdin_through_the_built_in_model(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Question: one?\r\n\nQuestion: two?"))
    assert run(["generate", *SHORT, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["index"] for line in lines] == [0, 1] and all(isinstance(line["text"], str) for line in lines)


def test_a_line_of_stdin_that_is_no_text(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Question: one?\n\udcff"))
    assert run(["generate", *SHORT]) == 2
    out, error = capsys.readouterr()
    assert out == "" and "stdin:2: is no valid text (UTF-8, no lone surrogates)" in error


def test_a_prompt_as_text(capsys):
    assert run(["generate", *SHORT, "--prompt", "Question: one?"]) == 0
    assert capsys.readouterr().out.endswith("\n")


def test_explain(llada, capsys):
    assert run(["explain", *llada, "--set", "cache=dual", "--source"]) == 0
    out = capsys.readouterr().out
    assert all(f"after {stage}:" in out for stage in ("resolve", "demand", "fuse")) and "def reuse_step(" in out
    assert run(["explain", *llada]) == 0
    assert "def " not in capsys.readouterr().out


def test_demo_ends_with_the_answer_and_one_line_of_speed(capsys):
    assert run(["demo", "--set", "generate.max_new_tokens=32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Question: ") and "forwards:" in lines[-3]
    assert lines[-2].startswith("answer: ") and ("(right)" in lines[-2] or "(wrong, it is " in lines[-2])
    speed, forwards, share = lines[-1].split(", ")
    assert speed.endswith(" tokens/s") and forwards.startswith("NFE ") and share.endswith(" tokens per forward")


def test_the_demo_in_a_pipe_shows_each_state_once(capsys):
    assert run(["demo", "--seed", "11"]) == 0
    lines = capsys.readouterr().out.splitlines()
    question, states = lines[0], [line.partition("forwards: ")[2] for line in lines if "forwards: " in line]
    assert len(question) > 100 and question.endswith("?") and lines[-2] == "answer: 42 (right)"
    assert len(states) > 2 and len(set(states)) == len(states)


def test_list_imports_no_component(monkeypatch, capsys):
    monkeypatch.setattr(registry, "load", lambda *_: pytest.fail("imported"))
    assert run(["list"]) == 0
    assert "threshold" in capsys.readouterr().out
    assert run(["list", "policies", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in found} >= {"factor", "threshold", "top-k"}
    assert all(row["package"] == "fdllm" and row["version"] for row in found if row["object"].startswith("fdllm."))


def test_list_keeps_columns_apart(capsys):
    assert run(["list", "models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    longest = max(len(line.split()[1]) for line in lines)
    assert longest > 28
    assert all(len(line.split()) == 5 and line[11 + longest :].startswith("  " + line.split()[2]) for line in lines)


def test_list_says_what_each_does(capsys):
    assert run(["list", "caches", "--verbose"]) == 0
    assert "Recompute all slots when a block begins, then the block alone." in capsys.readouterr().out


def test_doctor_finds_all_well(capsys):
    assert run(["doctor", "--json"]) == 0
    states = {found["what"]: found["state"] for found in json.loads(capsys.readouterr().out)}
    assert states["torch"] == states["model tiny"] == states["policy threshold"] == "ok"
    assert run(["doctor"]) == 0
    assert "policy threshold" in capsys.readouterr().out


def test_help_waits_for_no_heavy_import():
    code = "import sys, fdllm.cli.main; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_class_of_a_fine_tune(data, tmp_path, capsys):
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    source = data / "families" / "dream"
    (tuned / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    (tuned / "config.json").write_text((source / "config.json").read_text().replace("DreamModel", "OurModel"))
    named = ["--model", str(tuned), "--set", "model.family=DreamModel"]
    assert run(["generate", *named, *SHORT, "--prompt-ids", "[5, 6]"]) == 0
    found = capsys.readouterr().out
    assert run(["generate", "--model", str(source), *SHORT, "--prompt-ids", "[5, 6]"]) == 0
    assert capsys.readouterr().out == found


# wrong input: exit code 2, one message that names the key and the fix, nothing written

WRONG = {
    "unknown key": (["--set", "policy.colour=1"], "policy.colour: no such key; known keys: threshold"),
    "misspelt key": (["--set", "policy.treshold=1"], "policy.treshold: no such key; did you mean 'threshold'?"),
    "wrong type": (["--set", "policy.threshold=high"], "policy.threshold: Input should be a valid number, got 'high'"),
    "out of range": (["--set", "policy.threshold=2"], "policy.threshold: Input should be less than or equal to 1, got 2"),
    "unknown component": (["--set", "cache=duel"], "no cache named 'duel'; did you mean 'dual'?"),
    "steps that do not fit": (["--set", "policy=top-k", "--set", "policy.steps=3", "--set", "generate.block_length=4"], "policy.steps: 3 steps"),
    "unknown model": (["--model", "./absent"], "model.path: cannot find config.json of './absent': give a folder, a hub id or one of tiny"),
    "a folder without a model": (["--model", "{tmp}"], "has no config.json; give the folder of a checkpoint"),
    "an impossible override": (["--set", "model.mask_id=-1"], "model.mask_id: Input should be greater than or equal to 0"),
    "ids outside the vocabulary": (["--prompt-ids", "[5, 96]"], "--prompt-ids: ids [96] are outside the vocabulary [0, 96)"),
    "ids that are none": (["--prompt-ids", "[5, 'a']"], "--prompt-ids: broken JSON: Expecting value, column 5"),
    "ids in words": (["--prompt-ids", '[5, "a"]'], "--prompt-ids: prompt_ids.1: Input should be a valid integer, got 'a'"),
    "an empty prompt": (["--prompt", ""], "--prompt: the prompt is empty; give text, at least one token id, or"),
    "an empty prompt of ids": (["--prompt-ids", "[]"], "--prompt-ids: the prompt is empty; give text, at"),
    "text without a tokenizer": (["--prompt", "hi"], "--prompt: {model} has no tokenizer, so text cannot be read; give ids"),
    "over the context": (["--set", "generate.max_new_tokens=255"], "over the model's context of 256; shorten the prompt or lower"),
    "two sources": (["--prompt", "a", "--prompt-ids", "[1]"], "--prompt and --prompt-ids exclude each other; give one"),
    "a broken config": (["--config", "{tmp}/broken.toml"], "broken.toml:2: broken TOML"),
    "a missing config": (["--config", "{tmp}/absent.toml"], "absent.toml: cannot be read: No such file"),
    "a config of no known format": (["--config", "{tmp}/run.ini"], "run.ini: cannot tell its format by its name"),
    "a missing file of prompts": (["--prompts", "{tmp}/absent.jsonl"], "absent.jsonl: cannot be read: No such file"),
    "a broken line": (["--prompts", "{tmp}/broken.jsonl"], "broken.jsonl:2: broken JSON: Expecting value, column 16"),
    "a line with a misspelt key": (["--prompts", "{tmp}/misspelt.jsonl"], "misspelt.jsonl:1: promt_ids: no such key; did you mean 'prompt_ids'?"),
    "a line that is no object": (["--prompts", "{tmp}/list.jsonl"], "list.jsonl:1: wanted an object with 'prompt', 'prompt_ids' or 'messages', got [5]"),
    "a line with two prompts": (["--prompts", "{tmp}/two.jsonl"], "two.jsonl:1: give one of 'prompt' (text), 'prompt_ids'"),
    "a line outside the vocabulary": (["--prompts", "{tmp}/outside.jsonl"], "outside.jsonl:3: ids [500] are outside the vocabulary"),
    "no line at all": (["--prompts", "{tmp}/empty.jsonl"], "empty.jsonl: no prompt in it; give at least one line"),
    "an output nowhere": (["--output", "{tmp}/no/out.jsonl"], "out.jsonl: cannot be written: No such file or directory"),
    "an output that is a device": (["--output", "/dev/null"], "--output /dev/null: is no regular file, so a run cannot continue there; give another --output"),
    "an output that is a pipe": (["--output", "{tmp}/pipe"], "pipe: is no regular file"),
    "a prompt that is no text": (["--model", "tiny", "--prompt", "\udcff abc"], "--prompt: is no valid text (UTF-8, no lone surrogates); got '\\udcff abc'"),
    "a line that is no text": (["--model", "tiny", "--prompts", "{tmp}/surrogate.jsonl"], "surrogate.jsonl:1: is no valid text"),
    "an id that is no text": (["--prompts", "{tmp}/id.jsonl"], "id.jsonl:1: id: wanted valid text or a whole number, got '\\ud800'"),
    "an id that is a fraction": (["--prompts", "{tmp}/fraction.jsonl"], "id: wanted valid text or a whole number, got 1.5"),
    "ids without end": (["--prompt-ids", "[" * 100_000], "--prompt-ids: broken JSON: nested too deeply"),
    "too many new tokens": (["--set", "generate.max_new_tokens=100000000000"], "max_new_tokens: 100000000000 slots are over the model's context of"),
    "a batch of none": (["--batch-size", "0"], "--batch-size"),
    "an unknown option": (["--promt", "a"], "No such option: --promt"),
}  # fmt: skip
FILES = {
    "broken.toml": "[generate]\nseed = \n",
    "run.ini": "",
    "broken.jsonl": '{"prompt_ids": [5]}\n{"prompt_ids": }\n',
    "misspelt.jsonl": '{"promt_ids": [5]}\n',
    "list.jsonl": "[5]\n",
    "two.jsonl": '{"prompt_ids": [5], "prompt": "a"}\n',
    "outside.jsonl": '{"prompt_ids": [5]}\n\n{"prompt_ids": [500]}\n',
    "empty.jsonl": "\n",
    "surrogate.jsonl": '{"prompt": "\\ud800"}\n',
    "id.jsonl": '{"prompt_ids": [5], "id": "\\ud800"}\n',
    "fraction.jsonl": '{"prompt_ids": [5], "id": 1.5}\n',
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input(arguments, message, llada, tmp_path, capfd):
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    os.mkfifo(tmp_path / "pipe")
    given = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    if not {"--prompt", "--prompt-ids", "--prompts"} & set(given):
        given += ["--prompt-ids", "[5, 6]"]
    if "--output" not in given:
        given += ["--output", str(tmp_path / "out.jsonl")]
    base = [] if {"--model", "--config"} & set(given) else llada
    base += [] if "generate.max_new_tokens=255" in given else SHORT
    before = sorted(tmp_path.rglob("*"))

    assert run(["generate", *base, *given]) == 2
    out, error = capfd.readouterr()
    assert message.replace("{model}", llada[1]) in " ".join(error.split()).replace("\u2502 ", "")
    assert "Traceback" not in error and out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr("fdllm.config.DecodingConfig.from_file", lambda _: 1 / 0)
    assert run(["explain", "--config", "run.toml"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_ports_that_do_not_fit_are_no_fault_of_ours():
    from fdllm.graph import PortError

    assert command_line.is_user_error(PortError("policy reads 'entrpy'"))
    assert command_line.is_user_error(ValueError("policy.steps: 3 steps"))
    assert not command_line.is_user_error(TypeError("int + str"))
    assert not command_line.is_user_error(json.JSONDecodeError("Expecting value", "", 0))


def test_no_prompt_in_a_terminal(monkeypatch, llada, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert run(["generate", *llada]) == 2
    assert "no prompt: give --prompt, --prompt-ids or --prompts" in capsys.readouterr().err


# plugins that are broken


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make the metadata of an installed package that offers one policy."""

    def install(name, entry, code=None):
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[fdllm.policies]\n{entry}\n")
        if code is not None:
            (tmp_path / f"{name}.py").write_text(code)
        forget()

    def forget():
        registry.names.cache_clear()
        registry.load.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield install
    monkeypatch.undo()
    forget()


def test_a_plugin_that_cannot_be_imported(package, capsys):
    package("spoiled", "spoiled-policy = spoiled:Policy", "import no_such_module")
    said = "policy 'spoiled-policy' of spoiled 1.2 (spoiled:Policy) cannot be imported: ModuleNotFoundError"
    assert run(["list", "policies"]) == 0
    assert "spoiled 1.2" in capsys.readouterr().out
    assert run(["doctor", "--json"]) == 2
    broken = [found for found in json.loads(capsys.readouterr().out) if found["state"] == "broken"]
    assert [found["what"] for found in broken] == ["policy spoiled-policy"] and said in broken[0]["detail"]
    assert run(["generate", "--set", "policy=spoiled-policy", "--prompt", "a"]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_a_plugin_that_ends_the_process_is_broken(package, capsys):
    package("spoiled", "spoiled-policy = spoiled:Policy", "import sys; sys.exit(0)")
    assert run(["generate", "--set", "policy=spoiled-policy", "--prompt", "a"]) == 2
    assert "of spoiled 1.2 (spoiled:Policy) cannot be imported: SystemExit: 0; repair" in capsys.readouterr().err
    assert run(["doctor"]) == 2
    assert "cannot be imported: SystemExit: 0" in capsys.readouterr().out


def test_a_plugin_that_is_half_a_policy(package, capsys):
    code = "from fdllm.policies.base import UnmaskingPolicy\nclass Policy(UnmaskingPolicy): pass\n"
    package("half", "half-policy = half:Policy", code)
    assert run(["generate", "--set", "policy=half-policy", "--prompt", "a"]) == 2
    said = "of half 1.2 (half:Policy) does not define __call__, which an UnmaskingPolicy must"
    assert said in capsys.readouterr().err


def test_a_plugin_that_is_no_policy(package, capsys):
    package("spoiled", "spoiled-policy = spoiled:Policy", "Policy = 3")
    assert run(["generate", "--set", "policy=spoiled-policy", "--prompt", "a"]) == 2
    assert "'spoiled-policy' of spoiled 1.2 (spoiled:Policy) is not an UnmaskingPolicy" in capsys.readouterr().err


def test_two_packages_with_one_name(package, capsys):
    package("rival", "threshold = rival:Policy")
    assert run(["list"]) == 2
    error = capsys.readouterr().err
    assert "two packages offer policy 'threshold'" in error and "rival 1.2" in error and "fdllm" in error
    assert run(["doctor"]) == 2
    assert "two packages offer policy 'threshold'" in capsys.readouterr().out


# a file of prompts, and runs that are killed


def test_rows_are_in_order_and_do_not_depend_on_the_batch(llada, prompts, tmp_path, capsys):
    outputs = []
    for batch_size in (1, 4, 20):
        outputs.append(tmp_path / f"out-{batch_size}.jsonl")
        assert run(sampled(llada, prompts, outputs[-1], batch_size)) == 0
    texts = {path.read_text() for path in outputs}
    assert len(texts) == 1
    rows = [json.loads(line) for line in texts.pop().splitlines()]
    assert [(row["index"], row["id"]) for row in rows] == [(i, f"p{i}") for i in range(9)]
    assert all(row["visible_tokens"] == len(row["tokens"]) and row["nfe"] <= 8 for row in rows)
    assert len({str(row["tokens"]) for row in rows}) > 1


def test_texts_and_ids_in_one_file_and_a_summary_for_machines(tmp_path, capsys):
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"prompt": "Question: one?", "id": 1}\n{"prompt_ids": [5, 6]}\n')
    assert run(["generate", *SHORT, "--prompts", str(path), "--output", str(output), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["resumed"]) == (2, 0) and summary["nfe"] > 0
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == [1, None]
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert record["model"] == "tiny" and record["seed"] == "0"


def test_a_killed_run_started_again_loses_nothing_and_repeats_nothing(llada, prompts, tmp_path):
    prompts.write_text(prompts.read_text() * 10)
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    command = [*PROCESS, *sampled(llada, prompts, killed, 3)]
    assert run(sampled(llada, prompts, whole, 16)) == 0

    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    wait_for(lambda: killed.exists() and killed.stat().st_size > 500, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    begun = killed.read_text()
    assert 0 < begun.count("\n") < 90 and whole.read_text().startswith(begun)

    again = subprocess.run(command, check=False, env=ENVIRONMENT, capture_output=True, text=True)
    assert again.returncode == 0 and killed.read_text() == whole.read_text()
    assert f"90 rows, {begun.count(chr(10))} of them there before" in again.stderr


def wait_for(true, process, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None and time.monotonic() < end, "it ended before it could be killed"
        time.sleep(0.002)


ROWS = [
    {"index": i, "id": None, "prompt_digest": Prompt("", [i]).digest, "text": "\u00e9\u2028 \n" * i} for i in range(5)
]
PROMPTS = [Prompt(f"in.jsonl:{i + 1}", [i]) for i in range(5)]


def journal_rows(path, record, stop=None):
    with Output(path, record, PROMPTS) as journal:
        for row in ROWS[journal.done : stop]:
            journal.append([row])
    return path.read_bytes()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_torn_anywhere_is_continued(tmp_path, draw):
    path = tmp_path / "out.jsonl"
    path.unlink(missing_ok=True)
    whole = journal_rows(path, {"seed": "0"})
    path.write_bytes(whole[: draw.draw(st.integers(0, len(whole)))])
    assert journal_rows(path, {"seed": "0"}) == whole


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: (path.parent / "out.jsonl.run.json").unlink(), "no record of its run in out.jsonl.run.json"),
        (lambda path: (path.parent / "out.jsonl.run.json").write_text("{"), "no record of its run"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"index": 1', b'"index": 2')), "out.jsonl:2: answers another prompt than in.jsonl:2"),
        (lambda path: path.write_bytes(b"no row\n"), "out.jsonl:1: is no row of such a run"),
        (lambda path: path.write_bytes(path.read_bytes() * 2), "6 rows for 5 prompts"),
    ],
)  # fmt: skip
def test_a_file_of_another_run_is_left_alone(tmp_path, spoil, message):
    path = tmp_path / "out.jsonl"
    journal_rows(path, {"seed": "0"}, stop=3)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(SettingError, match=message):
        Output(path, {"seed": "0"}, PROMPTS)
    assert path.read_bytes() == before


def test_another_setting_is_named(tmp_path):
    path = tmp_path / "out.jsonl"
    before = journal_rows(path, {"seed": "0", "policy": "Threshold(threshold=0.9)"}, stop=3)
    with pytest.raises(SettingError, match=r"it was begun with seed = '0', this run has '1'; repeat the first command"):
        Output(path, {"seed": "1", "policy": "Threshold(threshold=0.9)"}, PROMPTS)
    assert path.read_bytes() == before


def test_a_file_that_is_no_output_is_left_alone(llada, prompts, tmp_path, capsys):
    before = prompts.read_bytes()
    assert run(sampled(llada, prompts, prompts, 1)) == 2
    assert "give another --output, or delete the file" in capsys.readouterr().err
    assert prompts.read_bytes() == before


def test_two_runs_do_not_write_one_file(tmp_path):
    path = tmp_path / "out.jsonl"
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SettingError, match="another run is writing it now"):
            Output(path, {}, PROMPTS)


def test_more_prompts_may_be_added_behind(llada, prompts, tmp_path, capsys):
    output, whole = tmp_path / "out.jsonl", prompts.read_text()
    prompts.write_text("".join(whole.splitlines(keepends=True)[:4]))
    assert run(sampled(llada, prompts, output, 2)) == 0
    prompts.write_text(whole)
    assert run(sampled(llada, prompts, output, 2)) == 0
    assert [json.loads(line)["index"] for line in output.read_text().splitlines()] == list(range(9))


def test_a_reader_that_leaves_early_is_no_fault(llada, prompts):
    read, write = os.pipe()
    os.close(read)
    command = [*PROCESS, "generate", *llada, *SHORT, "--prompts", str(prompts)]
    done = subprocess.run(command, check=False, env=ENVIRONMENT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr


def test_the_process_ends_with_the_code(llada):
    done = subprocess.run(
        [*PROCESS, "generate", *llada, "--prompt", "hi"], check=False, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"fdllm: --prompt: {llada[1]} has no tokenizer, so text cannot be read; give ids\n"
