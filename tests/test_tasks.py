"""Tasks: the same examples in every run, from the package, from files, and from a data set as published."""

import json
import os
import subprocess
import sys

import pytest

from fdllm import registry
from fdllm.component import SettingError, build
from fdllm.scorers.contains import Contains
from fdllm.scorers.last_number import LastNumber
from fdllm.scorers.python_tests import PythonTests
from fdllm.scorers.regex import Regex
from fdllm.tasks.base import Example, Task, cut
from fdllm.tasks.gsm8k import FILES, Gsm8k
from fdllm.tasks.gsm_mini import GsmMini
from fdllm.tasks.jsonl import Jsonl
from fdllm.testing import check_task
from fdllm.tiny.problems import held_out


def made(settings) -> Task:
    return build("tasks", settings, Task, "task")


# rows as published: a calculator's marks, thousands, a negative number
TRAIN = [
    {
        "question": f"Tom has {n} pens and buys 2 more. How many?",
        "answer": f"{n}+2=<<{n}+2={n + 2}>>{n + 2}\n#### {n + 2}",
    }
    for n in range(8)
]
TEST = [
    {
        "question": "A house costs $1,000 and $234 of repairs. How much?",
        "answer": "1000+234=<<1000+234=1234>>1234\n#### 1,234",
    },
    {"question": "It is 2 degrees and 5 colder at night. How many?", "answer": "2-5=<<2-5=-3>>-3\n#### -3"},
    {"question": "What is 3+4?", "answer": "#### 7"},
]


def published(folder, train=TRAIN, test=TEST):
    """Write a folder laid out as openai/gsm8k is."""
    import pyarrow
    import pyarrow.parquet

    for split, rows in (("train", train), ("test", test)):
        file = folder / FILES[split]
        file.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return str(folder)


@pytest.fixture
def gsm8k(tmp_path, monkeypatch):
    """A small gsm8k; what the library keeps of it goes with the test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "kept"))
    return published(tmp_path / "gsm8k")


def lines(file, *given, **settings):
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in given))
    return Jsonl(path=str(file), **{"scorer": "last-number", **settings})


# laws

OWN = sorted(name for name, entry in registry.names("tasks").items() if entry.module_name.startswith("fdllm."))


@pytest.mark.parametrize("name", OWN)
def test_laws(name, tmp_path, gsm8k):
    chat = [{"role": "user", "content": "1+1="}]
    file = tmp_path / "task.jsonl"
    lines(
        file,
        {"prompt": "2+2=", "answer": 4, "id": "b"},
        {"prompt": chat, "answer": "2"},
        {"prompt": "7", "answer": "7"},
    )
    settings = {
        "gsm-mini": [{}, {"shots": 2, "seed": 3}],
        "gsm8k": [{"path": gsm8k}, {"path": gsm8k, "shots": 0}, {"path": gsm8k, "chat": True}],
        "jsonl": [{"path": str(file), "scorer": "last-number"}],
    }
    for given in settings[name]:
        check_task(made({"name": name, **given}))


# the base: where a text ends, and the scorer inside


@pytest.mark.parametrize(
    ("text", "stop", "left"),
    [
        ("a b c", (), "a b c"),
        ("a b c", ("c", "b"), "a "),
        ("a b c", ("x",), "a b c"),
        ("x", ("x",), ""),
        ("", ("x",), ""),
        (" 3\n#### 3\n\nQuestion: 4", ("\n\nQuestion:",), " 3\n#### 3"),
    ],
)
def test_where_a_text_ends(text, stop, left):
    assert cut(text, stop) == left


def test_a_text_is_cut_before_it_is_judged():
    example, task = Example("1", "1+1=", "2"), GsmMini(scorer="last-number")
    assert task.right(example, "2\n\nQuestion: what is 3?") and not task.right(example, "3\n\nQuestion: 2")
    assert not task.with_settings(stop=[]).right(example, "2\n\nQuestion: what is 3?")


def test_a_scorer_is_a_name_or_a_table():
    assert made({"name": "gsm-mini"}).scorer == LastNumber()
    assert made({"name": "gsm-mini", "scorer": "contains"}).scorer == Contains()
    task = made({"name": "gsm-mini", "stop": ["\n"], "scorer": {"name": "regex", "pattern": "= (.)"}})
    assert task.scorer == Regex(pattern="= (.)") and task.stop == ("\n",)
    tables = task.model_dump(mode="json", exclude_unset=True)
    assert tables == {"stop": ["\n"], "scorer": {"name": "regex", "pattern": "= (.)"}}
    assert made({"name": "gsm-mini", **json.loads(json.dumps(tables))}) == task


FILE = {"name": "jsonl", "path": "x"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({**FILE, "scorer": {"name": "regex", "patern": "a"}}, "task.scorer.patern: no such key; did you mean"),
        ({**FILE, "scorer": {"name": "regex", "pattern": "("}}, "task.scorer.pattern: no regular expression: missing"),
        ({**FILE, "scorer": "regx"}, "task.scorer: no scorer named 'regx'; did you mean 'regex'?"),
        ({**FILE, "scorer": 3}, "task.scorer: wanted a name, a table with 'name', or a Scorer"),
        (FILE, "task.scorer: required, add it"),
        ({"name": "jsonl", "scorer": "contains"}, "task.path: required, add it"),
        ({**FILE, "scorer": "contains", "path": ""}, "task.path: String should have at least 1 character, got ''"),
        ({"name": "gsm-mini", "stop": "\n"}, r"task.stop: wanted a list, got '\n'"),
        ({"name": "gsm-mini", "stop": [""]}, "task.stop.0: String should have at least 1 character, got ''"),
        ({"name": "gsm-mini", "shots": -1}, "task.shots: Input should be greater than or equal to 0, got -1"),
        ({"name": "gsm-mini", "size": 5001}, "task.size: Input should be less than or equal to 5000, got 5001"),
        ({"name": "gsm-mini", "shot": 1}, "task.shot: no such key; did you mean 'shots'?"),
        ("gsm-min", "no task named 'gsm-min'; did you mean 'gsm-mini'?"),
    ],
)  # fmt: skip
def test_wrong_settings(given, message):
    with pytest.raises(ValueError) as error:
        made(given)
    assert message in str(error.value)


# gsm-mini


def test_gsm_mini_is_the_held_out_split():
    asked = GsmMini(size=30).examples(None)
    assert [(each.id, each.prompt, each.reference) for each in asked] == [
        (problem.key, problem.question, str(problem.answer)) for problem in held_out(30)
    ]
    assert len(GsmMini(size=30).examples(7)) == 7 and len(GsmMini(size=30).examples(99)) == 30
    task = GsmMini()
    for example, problem in zip(task.examples(20), held_out(20), strict=True):
        assert task.right(example, problem.text) and not task.right(example, f" #### {problem.answer + 1}")


def test_every_problem_has_worked_examples_of_its_own():
    plain = {each.id: each.prompt for each in GsmMini().examples(40)}
    prompts = {seed: GsmMini(shots=4, seed=seed).examples(40) for seed in (0, 1)}
    shown = [each.prompt.removesuffix(plain[each.id]) for each in prompts[0]]
    assert all(text.endswith("\n\n") and text.count("Question:") == text.count("\n#### ") == 4 for text in shown)
    assert len(set(shown)) == 40
    assert not any(one.prompt == other.prompt for one, other in zip(*prompts.values(), strict=True))


def test_keys_of_worked_examples_are_not_held_out():
    asked, task = held_out(40), GsmMini(shots=4)
    shown = {shot.key for problem in asked for shot in task.shots_of(problem)}
    assert len(shown) > 100 and not shown & {problem.key for problem in held_out(500)}
    assert all(len({shot.key for shot in task.shots_of(problem)}) == 4 for problem in asked)


# jsonl


def test_a_number_stays_as_it_is_written(tmp_path):
    path = tmp_path / "task.jsonl"
    path.write_text('{"prompt": "a", "answer": 0.00001}\n{"prompt": "b", "answer": 12.50}\n')
    task = Jsonl(path=str(path), scorer="last-number")
    assert [each.reference for each in task.examples(None)] == ["0.00001", "12.50"]


def test_a_file_of_prompts_and_answers(tmp_path):
    chat = [{"role": "user", "content": "2+2="}]
    task = lines(
        tmp_path / "task.jsonl",
        {"text": "1+1=", "number": 2, "id": 7, "source": "mine"},
        "",
        {"text": chat, "number": "4"},
        {"text": "0.5+1=", "number": 1.5, "id": "last"},
        prompt="text", answer="number", stop=["\n"],
    )  # fmt: skip
    assert task.examples(None) == [
        Example("7", "1+1=", "2"),
        Example("line 3", chat, "4"),
        Example("last", "0.5+1=", "1.5"),
    ]
    assert task.examples(1) == task.examples(None)[:1]
    assert task.right(task.examples(1)[0], "2\n3") and not task.right(task.examples(1)[0], "3\n2")


def test_completions_of_code_from_a_file(tmp_path):
    prompt = 'def add(a, b):\n    """Add."""\n'
    tests = "def check(candidate):\n    assert candidate(1, 2) == 3\n"
    task = lines(
        tmp_path / "code.jsonl",
        {"id": "add", "prompt": prompt, "answer": f"{prompt}# completion\n{tests}\ncheck(add)"},
        scorer={"name": "python-tests", "seconds": 5}, stop=["\ndef "],
    )  # fmt: skip
    (example,) = task.examples(None)
    assert task.scorer == PythonTests(seconds=5)
    assert task.right(example, "    return a + b\n\ndef other(") and not task.right(example, "    return a - b\n")


BROKEN = [
    ("{", "task.jsonl:2: broken JSON: Expecting property name enclosed in double quotes, column 2"),
    ("[1]", "task.jsonl:2: wanted an object with a prompt and an answer, got [1]"),
    ("[" * 100_000, "task.jsonl:2: broken JSON: maximum recursion depth exceeded"),
    ('{"prompt": "a", "answer": ' + "1" * 5000 + "}", "task.jsonl:2: broken JSON: Exceeds the limit"),
    ({"prompt": "a"}, "task.jsonl:2: no key 'answer', only prompt; add it, or name another with task.answer"),
    ({"answer": "1"}, "task.jsonl:2: no key 'prompt', only answer; add it, or name another with task.prompt"),
    ({}, "task.jsonl:2: no key 'prompt', only an empty object; add it"),
    ({"prompt": "", "answer": "1"}, "task.jsonl:2: prompt: wanted a text, or messages with role and content, got ''"),
    ({"prompt": [], "answer": "1"}, "task.jsonl:2: prompt: wanted a text, or messages with role and content, got []"),
    ({"prompt": [{"role": "user"}], "answer": "1"}, "task.jsonl:2: prompt: wanted a text, or messages with"),
    ({"prompt": [{"role": "user", "content": 3}], "answer": "1"}, "task.jsonl:2: prompt: wanted a text, or messages"),
    ({"prompt": 3, "answer": "1"}, "task.jsonl:2: prompt: wanted a text, or messages with role and content, got 3"),
    ({"prompt": "a", "answer": None}, "task.jsonl:2: answer: wanted a text or a number, got None"),
    ({"prompt": "a", "answer": True}, "task.jsonl:2: answer: wanted a text or a number, got True"),
    ({"prompt": "a", "answer": "none"}, "task.jsonl:2: answer: last-number wants a number, such as 42"),
    ({"prompt": "a", "answer": "1", "id": ""}, "task.jsonl:2: id: wanted a text or a whole number, got ''"),
    ({"prompt": "a", "answer": "1", "id": [1]}, "task.jsonl:2: id: wanted a text or a whole number, got [1]"),
    ({"prompt": "a", "answer": "1", "id": "first"}, "task.jsonl:2: id 'first' stands in a line above; name each once"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), BROKEN, ids=[message[14:60] for _, message in BROKEN])
def test_a_broken_line_is_named(tmp_path, line, message):
    task = lines(tmp_path / "task.jsonl", {"prompt": "a", "answer": "1", "id": "first"}, line)
    for limit in (1, None):
        with pytest.raises(SettingError) as error:
            task.examples(limit)
        assert str(error.value).startswith(f"{tmp_path}/{message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "task.jsonl: no line in it; give at least one object with 'prompt'"),
        (b"\n \n", "task.jsonl: no line in it"),
        (b"\xff", "task.jsonl: not UTF-8 text at byte 0"),
        (None, "task.jsonl: cannot be read: No such file"),
    ],
)
def test_a_file_without_examples(tmp_path, content, message):
    if content is not None:
        (tmp_path / "task.jsonl").write_bytes(content)
    with pytest.raises(SettingError, match=message):
        Jsonl(path=str(tmp_path / "task.jsonl"), scorer="contains").examples(None)


# gsm8k


def test_gsm8k_as_a_text_that_goes_on(gsm8k):
    task = Gsm8k(path=gsm8k, shots=2)
    found = task.examples(None)
    assert [(each.id, each.reference) for each in found] == [("test 0", "1,234"), ("test 1", "-3"), ("test 2", "7")]
    assert found[2].prompt == (
        "Question: Tom has 0 pens and buys 2 more. How many?\nAnswer: 0+2=<<0+2=2>>2\n#### 2\n\n"
        "Question: Tom has 1 pens and buys 2 more. How many?\nAnswer: 1+2=<<1+2=3>>3\n#### 3\n\n"
        "Question: What is 3+4?\nAnswer:"
    )
    assert task.right(found[0], " It is\n#### 1234\n\nQuestion: and?") and not task.right(found[0], " #### 1,235")
    assert task.right(found[1], " so it is -3 degrees") and not task.right(found[1], " 3\n\nQuestion: -3")


def test_gsm8k_as_a_conversation(gsm8k):
    chat = Gsm8k(path=gsm8k, shots=1, chat=True).examples(1)[0].prompt
    assert chat == [
        {"role": "user", "content": f"Question: {TRAIN[0]['question']}\nAnswer:"},
        {"role": "assistant", "content": TRAIN[0]["answer"]},
        {"role": "user", "content": f"Question: {TEST[0]['question']}\nAnswer:"},
    ]
    assert Gsm8k(path=gsm8k, shots=0, chat=True).examples(1)[0].prompt == chat[2:]


def test_gsm8k_that_cannot_be_read(gsm8k, tmp_path, monkeypatch):
    def refused(message, **settings):
        with pytest.raises(SettingError) as error:
            Gsm8k(**{"path": gsm8k, **settings}).examples(None)
        assert message in str(error.value)

    refused(f"task.shots: {gsm8k} has 8 examples to show, wanted 9; show fewer", shots=9)
    (tmp_path / "empty").mkdir()
    absent = " and no ".join(FILES.values())
    refused(f"task.path: {tmp_path}/empty has no {absent}; lay it out as openai/gsm8k is", path=str(tmp_path / "empty"))
    named = published(tmp_path / "named", train=[{"text": "a"}], test=[{"text": "a"}])
    refused(f"task.path: {named}, train: wanted columns question and answer, got text", path=named)
    wrong = published(tmp_path / "wrong", test=[{"question": "a", "answer": "#### none"}])
    refused(f"{wrong}: answer of test 0: last-number wants a number, such as 42 or '#### 42', got 'none'", path=wrong)
    broken = published(tmp_path / "broken")
    (tmp_path / "broken" / FILES["train"]).write_bytes(b"no parquet")
    refused(f"task.path: {broken} cannot be read as the data set gsm8k: ", path=broken)
    # as where it is not installed
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused("task gsm8k: wants the package datasets; pip install 'fdllm[tasks]'")


def test_gsm8k_that_is_out_of_reach(tmp_path):
    code = "from fdllm.tasks.gsm8k import Gsm8k; Gsm8k(path='nowhere/else').examples(1)"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "SettingError: task.path: nowhere/else cannot be read as the data set gsm8k: " in done.stderr
    assert done.stderr.rstrip().endswith(f"give a hub id within reach, or a folder with {' and '.join(FILES.values())}")


def test_gsm8k_is_read_only_when_it_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert made({"name": "gsm8k", "path": "nowhere/else"}).shots == 5
