"""Grids: what their files may say, what becomes of it, how it is counted, and that a killed run goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdllm.cli.main import run
from fdllm.component import SettingError
from fdllm.grids.cells import groups
from fdllm.grids.changes import changed
from fdllm.grids.claims import verdict
from fdllm.grids.grid import Grid, built_in
from fdllm.grids.intervals import paired_difference, wilson
from fdllm.grids.lines import lines
from fdllm.grids.measure import Taken
from fdllm.grids.plots import _sweep, front
from fdllm.grids.session import JOURNAL, Session

SMALL = """
title = "small"
[task]
name = "gsm-mini"
[bench]
problems = 3
samples = 2
[model]
dtype = "float32"
[generate]
max_new_tokens = 48
block_length = 16
[axes]
task.shots = [0, 1]
[[rows]]
name = "one token a step"
cache = "none"
policy = { name = "top-k", k = 1 }
[[rows]]
name = "dual"
cache = "dual"
policy = { name = "threshold" }
sweep = { policy.threshold = [0.5, 0.9] }
"""
TIMES = ("seconds", "tokens_per_second", "speedup", "refresh_share", "peak_memory")


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def names(grid):
    return [[cell.name for cell in group] for group in groups(grid)]


def steady(results):
    """What does not depend on time."""
    return [{key: row[key] for key in row if not key.startswith(TIMES)} for row in results["rows"]]


# counting


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(10, 20, 0.2993, 0.7007), (0, 10, 0.0, 0.2775), (81, 100, 0.7222, 0.8749)]
)
def test_wilsons_interval(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000), st.data())
def test_wilsons_interval_holds_the_share(count, data):
    right = data.draw(st.sampled_from([0, count, data.draw(st.integers(0, count))]))
    low, high = wilson(right, count)
    assert 0 <= low <= right / count <= high <= 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_difference_of_pairs(pairs):
    ours, theirs = zip(*pairs, strict=True)
    difference, low, high = paired_difference(ours, theirs)
    assert difference == pytest.approx((sum(ours) - sum(theirs)) / len(pairs))
    assert -1 <= low <= difference <= high <= 1 and low < high
    assert paired_difference(theirs, ours) == pytest.approx((-difference, -high, -low))


def test_a_difference_of_pairs_by_hand():
    # 60 problems: 6 gained, 2 lost; with half an observation more in each outcome 6.5 and 2.5 of 62
    ours, theirs = [True] * 6 + [False] * 54, [False] * 6 + [True] * 2 + [False] * 52
    half = 1.959964 * (9 - 16 / 62) ** 0.5 / 62
    assert paired_difference(ours, theirs) == pytest.approx((4 / 60, 4 / 62 - half, 4 / 62 + half))


def taken(cell, batch, right, tokens, nfe, seconds):
    return Taken(
        cell,
        batch,
        [f"{batch}"],
        ["text"],
        [right],
        [tokens],
        None if nfe is None else [nfe],
        seconds,
        seconds / 4,
        100,
        None,
    )


def test_lines_count_tokens_forwards_and_samples(small):
    cells = groups(Grid.read(str(small)))[0][:2]
    slow = [taken(cells[0].name, b, True, 10, 20, s) for b, s in enumerate((1.0, 2.0, 1.0, 2.0))]
    fast = [taken(cells[1].name, b, b != 3, t, 5, 0.5) for b, t in enumerate((10, 20, 10, 20))]
    first, second = lines(cells, slow + fast, 2)
    # batches 0 and 2 are one sample, 1 and 3 the other: 20 tokens in 2 s, 20 in 4 s
    assert first.tokens_per_second_range == (5.0, 10.0) and first.tokens_per_second == 7.5
    assert first.speedup == 1.0 and first.nfe == 20 and first.tokens_per_forward == 0.5
    assert second.tokens_per_second_range == (20.0, 40.0) and second.speedup == pytest.approx((2 + 8) / 2)
    assert second.nfe == 5 and second.tokens_per_forward == 3.0 and second.visible_tokens == 15
    assert (second.right, second.accuracy, second.accuracy_difference) == (3, 0.75, -0.25)
    assert second.refresh_share == 0.25 and second.peak_memory == 100 and second.seconds == 0.5


def test_what_is_unknown_is_none_and_not_zero(small):
    cells = groups(Grid.read(str(small)))[0][:2]
    silent = [taken(cells[0].name, 0, False, 0, None, 1.0)]
    other = [taken(cells[1].name, 0, True, 4, 2, 1.0)]
    first, second = lines(cells, silent + other, 5)
    assert first.nfe is None and first.tokens_per_forward is None and first.tokens_per_second == 0
    assert second.speedup is None and second.speedup_range is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_the_front_is_what_nothing_beats(points):
    best = front(points)

    def beaten(p):
        return any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points)

    assert best == sorted(p for p in set(points) if not beaten(p))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.02, 0.01, "no more than 2 points are lost"),
        (-0.05, -0.021, "more than 2 points are lost"),
        (-0.05, 0.03, "whether more than 2 points are lost, 40 problems cannot tell"),
    ],
)
def test_a_verdict_says_what_the_interval_allows(low, high, said):
    row = {"accuracy_difference": (low + high) / 2, "accuracy_difference_interval": [low, high], "problems": 40}
    assert verdict(row).endswith(f": {said}")


# files


def test_rows_axes_and_sweeps_are_written_out(small):
    dual = ["dual, threshold 0.5", "dual, threshold 0.9"]
    wanted = [[f"{name}, shots {shots}" for name in ("one token a step", *dual)] for shots in (0, 1)]
    assert names(Grid.read(str(small))) == wanted
    cell = groups(Grid.read(str(small)))[1][1]
    assert cell.task.shots == 1 and cell.config.policy.threshold == 0.5 and cell.config.generate.max_new_tokens == 48


def test_every_built_in_grid_can_be_built():
    assert built_in() == ["factor", "few-shot", "paper-figure-4", "paper-figure-5", "paper-table-1", "paper-table-3-4"]
    sizes = {name: [len(group) for group in groups(Grid.read(name))] for name in built_in()}
    assert sizes["paper-table-1"] == [4, 4] and sizes["paper-table-3-4"] == [4] * 6
    assert sizes["paper-figure-4"] == [13] and sizes["paper-figure-5"] == [11] and sizes["factor"] == [12]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('title = "small"', 'titel = "small"', r"titel: no such key; did you mean 'title'"),
        ("problems = 3", "problem = 3", r"bench\.problem: no such key; did you mean 'problems'"),
        ("problems = 3", "problems = 0", r"bench\.problems: .*greater than or equal to 1, got 0"),
        ("max_new_tokens = 48", "max_tokens = 48", r"row 'one token a step': generate\.max_tokens: no such key"),
        ("k = 1 }", "kk = 1 }", r"row 'one token a step': policy\.kk: no such key"),
        ("[generate]", "tp = 2\n[generate]", r"model\.tp: a grid is measured in one process"),
        ('cache = "dual"', 'cache = "daul"', r"row 'dual': cache: no cache named 'daul'; did you mean 'dual'"),
        ('name = "gsm-mini"', 'name = "gsm"', r"row 'one token a step': no task named 'gsm'"),
        ("task.shots = [0, 1]", "task.shot = [0, 1]", r"row 'one token a step': task\.shot: no such key"),
        ("task.shots = [0, 1]", "task.shots = 1", r"axes: task\.shots: wanted a list of values"),
        ("task.shots = [0, 1]", "tasks.shots = [1]", r"axes: tasks: no such table; known: task, model"),
        ("[0.5, 0.9]", "[]", r"rows\.1\.sweep: policy\.threshold: wanted a list"),
        ('name = "dual"', 'name = "one token a step"', r"rows: 'one token a step' is the name of two rows"),
        ("sweep =", 'command = ["x"]\nsweep =', r"rows\.1: dual: an external decoder takes `options`, not cache"),
        ("sweep =", "options = { a = 1 }\nsweep =", r"rows\.1: dual: options are for an external decoder"),
        ("sweep =", "options = { a = 2024-01-01 }\nsweep =", r"rows\.1\.options: wanted values that JSON has"),
        ("task.shots =", "policy.threshold =", r"axes: policy\.threshold: row 'dual' sets it as well; drop one"),
        ("task.shots =", "policy.k =", r"axes: policy\.k: row 'one token a step' sets it as well; drop one"),
        ("task.shots =", "cache.name =", r"axes: cache\.name: row 'one token a step' sets it as well; drop one"),
        ("samples = 2", "samples = 2\n[temperature]\n", r"row 'one token a step': temperature: "),
        ("[[rows]]", "[rows]", r"rows: "),
    ],
)
def test_a_wrong_key_is_named(small, before, after, message, capsys):
    small.write_text(SMALL.replace(before, after) if before != "[[rows]]" else SMALL.split("[[rows]]")[0] + "[rows]")
    assert run(["bench", str(small)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fdllm: ")
    assert re.search(message, error), error


# changes


def test_a_set_key_holds_in_every_row(small):
    grid = Grid.read(str(small))
    found = groups(
        changed(grid, ["generate.max_new_tokens=32", "cache=prefix", "policy.threshold=0.7", "task.shots=2"])
    )
    assert names(changed(grid, ["task.shots=2"])) == [
        ["one token a step", "dual, threshold 0.5", "dual, threshold 0.9"]
    ]
    assert [cell.name for group in found for cell in group] == ["one token a step", "dual"]
    assert {cell.config.generate.max_new_tokens for cell in found[0]} == {32}
    assert {type(cell.config.cache).__name__ for cell in found[0]} == {"Prefix"}
    assert found[0][1].config.policy.threshold == 0.7 and found[0][0].config.policy.k == 1
    assert {cell.task.shots for cell in found[0]} == {2}


def test_a_list_gives_an_axis_or_a_sweep_other_values(small):
    grid = changed(Grid.read(str(small)), ["task.shots=[3]", "policy.threshold=[0.8]", "bench.problems=1"])
    assert names(grid) == [["one token a step, shots 3", "dual, threshold 0.8, shots 3"]]
    assert grid.bench.problems == 1


def test_another_task_drops_the_keys_it_does_not_know(small, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "1+1=", "answer": "2"}\n')
    grid = changed(Grid.read(str(small)), ["task=jsonl", f'task.path="{path}"', "task.scorer=last-number"])
    assert grid.axes == {} and groups(grid)[0][0].task.examples(None)[0].reference == "2"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.factor=1", r"policy\.factor: no row names a policy that has such a key"),
        ("tasks.shots=1", r"tasks\.shots: no such table; known: task, bench, model"),
        ("bench.problem=1", r"bench\.problem: no such key"),
        ("task=5", r"task\.name: wanted the name of a task, got 5"),
        ("policy=[1]", r"policy: wanted the name of a policy, got \[1\]"),
        ("threshold", r"'threshold': wanted table\.key=value"),
    ],
)
def test_a_wrong_change_is_named(small, override, message):
    with pytest.raises(SettingError, match=message):
        changed(Grid.read(str(small)), [override])


def test_an_axis_stands_above_the_component_of_a_row(small):
    text = SMALL.replace("task.shots = [0, 1]", "policy.order = ['confidence', 'entropy']")
    small.write_text(text.split("[[rows]]")[0] + "[[rows]]" + text.split("[[rows]]")[1])
    assert [group[0].config.policy.order for group in groups(Grid.read(str(small)))] == ["confidence", "entropy"]


def test_the_component_that_is_there_keeps_its_keys(small):
    grid = Grid.read(str(small))
    assert changed(grid, ["task=gsm-mini"]) == grid
    assert groups(changed(grid, ["policy.k=2", "policy=top-k"])) == groups(
        changed(grid, ["policy=top-k", "policy.k=2"])
    )
    top_k = groups(changed(grid, ["policy=top-k", "task.shots=0"]))[0]
    assert [(cell.name, cell.config.policy.k) for cell in top_k] == [("one token a step", 1), ("dual", 1)]
    swept = groups(changed(grid, ["policy=threshold", "task.shots=0"]))[0]
    assert [cell.config.policy.threshold for cell in swept] == [0.9, 0.5, 0.9]


# runs


def test_a_prompt_that_will_not_fit_is_told_before_anything_is_decoded(small, tmp_path, capsys):
    small.write_text(SMALL.replace("task.shots = [0, 1]", "task.shots = [0, 90]"))
    assert bench(small, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert re.search(r"row 'one token a step, shots 90': problem .*, over the model's context of 1024", error)
    assert (tmp_path / "out" / JOURNAL).read_bytes() == b""


def bench(small, out, *more):
    return run(["bench", str(small), "--out", str(out), *more])


def test_a_grid_gives_a_table_and_files(small, tmp_path, capsys):
    assert bench(small, tmp_path / "out") == 0
    table = capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["name"] for row in results["rows"]] == [
        name for group in names(Grid.read(str(small))) for name in group
    ]
    for row in results["rows"]:
        assert row["name"] in table and row["problems"] == 3
        assert row["tokens_per_forward"] == pytest.approx(row["visible_tokens"] / row["nfe"])
        assert 0 <= row["accuracy_interval"][0] <= row["accuracy"] <= row["accuracy_interval"][1] <= 1
        assert row["tokens_per_second"] > 0 and row["speedup"] > 0 and row["record"]["dtype"] == "float32"
    one, low, high = results["rows"][:3]
    assert one["speedup"] == 1 and one["refresh_share"] == 0 and low["refresh_share"] > 0
    assert low["nfe"] < high["nfe"] < one["nfe"]
    header, *rest = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert len(rest) == 6 and {"name", "accuracy", "task.shots", "policy.threshold", "speedup_range_low"} <= set(
        header.split(",")
    )

    assert bench(small, tmp_path / "again") == 0
    assert steady(json.loads((tmp_path / "again" / "results.json").read_text())) == steady(results)


class Stop:
    """Ends a session after so many decodes."""

    def __init__(self, after):
        self.left = after

    def begin(self, name):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1

    def done(self, count):
        self.seen = count

    def found(self, count):
        self.kept = count


@pytest.mark.parametrize("after", [1, 8, 17])
def test_a_run_that_was_stopped_decodes_only_what_is_missing(small, tmp_path, after):
    session = Session(Grid.read(str(small)))
    whole = session.measure(None, Stop(-1))
    with pytest.raises(KeyboardInterrupt):
        session.measure(tmp_path, Stop(after))
    assert len((tmp_path / JOURNAL).read_bytes().splitlines()) == after
    rest = Stop(session.total - after)
    found = session.measure(tmp_path, rest)
    assert rest.left == 0 and rest.kept == max(0, after - 9)
    assert steady({"rows": [line.to_dict() for group in found for line in group]}) == steady(
        {"rows": [line.to_dict() for group in whole for line in group]}
    )
    # a finished folder gives its table again, and decodes nothing
    assert session.measure(tmp_path, Stop(0)) == found


def test_a_killed_process_goes_on(small, tmp_path):
    command = [sys.executable, "-m", "fdllm.cli.main", "bench", str(small), "--out", str(tmp_path / "out")]
    process = subprocess.Popen([*command, "--limit", "40"], env=os.environ | {"OMP_NUM_THREADS": "1"})
    journal = tmp_path / "out" / JOURNAL
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = journal.read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    session = Session(changed(Grid.read(str(small)), ["bench.problems=40"]))
    left = Stop(5)
    with pytest.raises(KeyboardInterrupt):
        session.measure(tmp_path / "out", left)
    assert journal.read_bytes().startswith(whole) and journal.read_bytes().count(b"\n") == whole.count(b"\n") + 5


def test_another_grid_is_refused_in_the_same_folder(small, tmp_path, capsys):
    assert bench(small, tmp_path, "--limit", "1", "--set", "task.shots=0") == 0
    before = (tmp_path / JOURNAL).read_bytes()
    assert bench(small, tmp_path, "--limit", "1", "--set", "task.shots=1") == 2
    assert "it was begun with cells = " in capsys.readouterr().err
    assert (tmp_path / JOURNAL).read_bytes() == before
    (tmp_path / "few-shot").mkdir()
    (tmp_path / "file").write_text("")
    assert bench(small, tmp_path / "file") == 2
    assert "file: cannot be made a folder" in capsys.readouterr().err


def test_other_problems_are_refused_in_the_same_folder(tmp_path, capsys):
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "1+1=", "answer": 2}\n{"prompt": "1+2=", "answer": 3}\n')
    settings = ["--set", "task.scorer=last-number", "--set", "generate.max_new_tokens=32"]
    command = ["bench", "few-shot", "--task", str(path), *settings, "--out", str(tmp_path / "o")]
    assert run(command) == 0
    before = (tmp_path / "o" / JOURNAL).read_bytes()
    path.write_text(path.read_text().replace("3}", "4}"))
    assert run(command) == 2
    assert "it was begun with problems = " in capsys.readouterr().err
    assert (tmp_path / "o" / JOURNAL).read_bytes() == before


def test_plots_are_drawn_for_every_sweep(small, tmp_path):
    text = SMALL.replace("[0.5, 0.9] }", "[0.5, 0.9], generate.max_new_tokens = [32, 48] }")
    small.write_text(text.replace("task.shots = [0, 1]", "task.shots = [0]"))
    assert bench(small, tmp_path / "out", "--limit", "1") == 0
    drawn = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    sweeps = ["sweep-generate.max_new_tokens.png", "sweep-policy.threshold.png"]
    assert drawn == ["accuracy-forward.png", "accuracy-speed.png", *sweeps]
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    axes = _sweep(rows, "policy.threshold").axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "one token a step, shots 0",
        "dual, shots 0, max_new_tokens 32",
        "dual, shots 0, max_new_tokens 48",
    ]


def test_every_row_has_its_turn_first(small):
    group = Session(changed(Grid.read(str(small)), ["task.shots=0"])).groups[0]
    names = [cell.name for cell in group.cells]
    turns = [(batch, names.index(cell.name)) for batch, cell in group.turns()]
    assert turns == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (1, 0), (2, 2), (2, 0), (2, 1)]


def test_the_grids_are_listed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few-shot").mkdir()
    assert Grid.read("few-shot").bench.problems == 500
    assert run(["bench", "--limit", "5"]) == 2
    assert "GRID: wanted a grid to run, a file or one of factor, few-shot" in capsys.readouterr().err
    assert run(["bench"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == built_in()
    assert run(["bench", "paper-table-2"]) == 2
    assert "no grid 'paper-table-2'; give a file, or one of factor, few-shot, paper-figure-4" in capsys.readouterr().err


# external decoders

EXAMPLE = Path(__file__).parent.parent / "examples" / "external_decoder.py"


def external(tmp_path, command, model="tiny"):
    path = tmp_path / "external.toml"
    table = SMALL.split("[axes]")[0].replace('dtype = "float32"', f'dtype = "float32"\npath = "{model}"')
    rows = f'[[rows]]\nname = "theirs"\ncommand = {json.dumps(command)}\n' + "[[rows]]" + SMALL.split("[[rows]]")[1]
    path.write_text(table + rows)
    return path


def test_an_external_decoder_is_counted_as_fdllm_is(tmp_path, capsys):
    assert run(["convert", "tiny", str(tmp_path / "native")]) == 0
    grid = external(tmp_path, [sys.executable, str(EXAMPLE)], str(tmp_path / "native"))
    assert bench(grid, tmp_path / "out", "--set", "generate.stop_at_eos=false") == 0
    theirs, ours = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert theirs["nfe"] == ours["nfe"] == 48 and theirs["visible_tokens"] == ours["visible_tokens"]
    assert theirs["accuracy"] == ours["accuracy"] and theirs["peak_memory"] > 0
    assert theirs["refresh_share"] is None and ours["refresh_share"] == 0
    decodes = [json.loads(line) for line in (tmp_path / "out" / JOURNAL).read_text().splitlines()]
    decodes.sort(key=lambda row: row["batch"])
    texts = {name: [row["texts"] for row in decodes if row["cell"] == name] for name in ("theirs", "one token a step")}
    assert texts["theirs"] == texts["one token a step"]


TEXTS = """
import json, sys
for line in sys.stdin:
    ((request, fields),) = json.loads(line).items()
    if request == "load":
        assert fields["model"]["device"] == "cpu" and fields["generate"]["max_new_tokens"] == 48
        answer = {}
    else:
        assert fields["block_length"] == 16
        answer = {"texts": [" 7 plums.\\n#### 7<|endoftext|> 8" for _ in fields["prompts"]]}
    print(json.dumps(answer), flush=True)
"""


def test_an_external_decoder_may_answer_texts(tmp_path):
    assert bench(external(tmp_path, [sys.executable, "-c", TEXTS]), tmp_path / "out") == 0
    theirs, ours = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    (text,) = {json.loads(line)["texts"][0] for line in (tmp_path / "out" / JOURNAL).read_text().splitlines()[:1]}
    assert text == " 7 plums.\n#### 7" and theirs["nfe"] is None and ours["nfe"] > 0
    header, first, _ = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert dict(zip(header.split(","), first.split(","), strict=True))["nfe"] == ""


SCRIPTS = {
    "raise SystemExit(3)": "row 'theirs': the process ended with code 3 when asked to load",
    "print('hello')": "row 'theirs': wanted one JSON object when asked to load, got 'hello'",
    'print(\'{"error": "no such folder"}\')': "row 'theirs': cannot load: no such folder",
    "input(); print('{\"record\": 1}')": "row 'theirs': wanted record, a table, got {'record': 1}",
    "input(); print('{}'); input(); print('{\"tokens\": []}')": "row 'theirs': wanted tokens, a list of ids",
    "input(); print('{}'); input(); print('{\"tokens\": [5]}')": "wanted tokens, a list of ids for each of 1 prompts",
    "input(); print('{}'); input(); print('{\"texts\": [5]}')": "wanted tokens, a list of ids for each of 1 prompts",
    "input(); print('{}'); input(); print('{\"tokens\": [[5]], \"nfe\": 1}')": "wanted nfe, a number of forwards",
    "input(); print('{}'); input(); print({'tokens': [[9] * 49]}.__repr__().replace(chr(39), chr(34)))": (
        "row 'theirs': wanted at most 48 ids a response, without the prompt"
    ),
    "import os, time; os.close(1); time.sleep(600)": "the process closed its stdout when asked to load",
    "import time; print('hello', flush=True); time.sleep(600)": "wanted one JSON object when asked to load",
}


@pytest.mark.parametrize(("script", "message"), SCRIPTS.items())
def test_an_external_decoder_that_fails_is_named(tmp_path, script, message, capsys):
    assert run(["bench", str(external(tmp_path, [sys.executable, "-c", script]))]) == 2
    assert message in capsys.readouterr().err


def test_a_command_that_is_not_there_is_named(tmp_path, capsys):
    assert run(["bench", str(external(tmp_path, ["./nowhere"]))]) == 2
    assert "row 'theirs': './nowhere' cannot be started: No such file or directory" in capsys.readouterr().err
