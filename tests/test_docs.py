"""What the documentation says is so: its code runs, its output is what is printed, its files exist."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fdllm
from fdllm import registry
from fdllm.cli.main import run
from fdllm.cli.task_docs import tasks_markdown
from fdllm.component import build
from fdllm.grids import results
from fdllm.grids.cells import groups
from fdllm.grids.grid import Grid
from fdllm.policies.base import UnmaskingPolicy
from fdllm.tasks.base import Task
from fdllm.tasks.jsonl import Jsonl
from fdllm.testing import random_model
from fdllm.types import Mask, Probability

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    """The fenced blocks of a page, by the title on their first line; untitled ones by number."""
    found = {}
    for kind, text in FENCE.findall((ROOT / page).read_text()):
        if kind == language:
            title = re.match(r"# (\S.*)\n", text)
            found[title[1] if title else len(found)] = text[title.end() :] if title else text
    return found


def refresh():
    registry.names.cache_clear()
    registry.load.cache_clear()


@pytest.fixture
def path(monkeypatch):
    """Put folders on the path, as an installation does, and forget them afterwards."""

    def put(*folders):
        for folder in folders:
            monkeypatch.syspath_prepend(str(folder))
        refresh()

    yield put
    monkeypatch.undo()
    refresh()


# docs/plugins.md


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The package of docs/plugins.md, written from the page, and the folder it was installed into."""
    folder, site = tmp_path_factory.mktemp("fdllm-example"), tmp_path_factory.mktemp("site")
    files = {**blocks("docs/plugins.md", "toml"), **blocks("docs/plugins.md", "python")}
    files["src/fdllm_example/__init__.py"] = ""
    _, *tree = blocks("docs/plugins.md", "text")[0].split()
    assert set(tree) == set(files)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(folder)], check=True)
    return folder, site


def test_the_package_on_the_page_passes_its_own_tests(example):
    folder, site = example
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_page_says_is_printed(example, path, capsys):
    path(example[1])
    for title, text in blocks("docs/plugins.md", "text").items():
        if isinstance(title, str):
            assert run(title.split()[1:]) == 0
            printed = capsys.readouterr().out.splitlines()
            assert [line for line in text.splitlines() if line not in printed] == []


def test_every_pair_on_the_page_decodes(example, path):
    path(example[1])
    for policy in ("confident-run", "steady", "second-thoughts", "few-choices"):
        for cache in ("halo", "only-stale"):
            out = fdllm.compile(tiny(), cache=cache, policy=policy, max_new_tokens=12, block_length=4).generate("1+1=")
            assert out.nfe <= 12


# plugins that are at fault


def installed(site, package, group, name, code):
    """Leave in a folder what an installer would: a module, and metadata with one entry point."""
    (site / f"{package}-1.0.dist-info").mkdir(parents=True)
    (site / f"{package}-1.0.dist-info" / "entry_points.txt").write_text(f"[fdllm.{group}]\n{name} = {package}:Part\n")
    (site / f"{package}.py").write_text(code)


def test_two_packages_that_offer_one_name_are_both_named(tmp_path, path):
    for package in ("fdllm_one", "fdllm_two"):
        installed(tmp_path, package, "caches", "twice", "raise AssertionError('imported')")
    path(tmp_path)
    with pytest.raises(
        registry.PluginError,
        match=r"two packages offer cache 'twice': fdllm_\w+ 1.0 \(fdllm_\w+:Part\) and fdllm_\w+ 1.0 .*; uninstall one",
    ) as caught:
        registry.names("caches")
    assert "fdllm_one" in str(caught.value) and "fdllm_two" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nowhere", r"cannot be imported: ModuleNotFoundError: No module named 'nowhere'; repair or uninstall"),
        ("1 / 0", r"cannot be imported: ZeroDivisionError: division by zero; repair or uninstall"),
        ("other = 1", r"cannot be imported: AttributeError: module 'fdllm_faulty' has no attribute 'Part'"),
        ("Part = 3", r"is not an UnmaskingPolicy"),
        ("class Part: pass", r"is not an UnmaskingPolicy"),
    ],
)
def test_a_plugin_at_fault_is_named_with_its_package(tmp_path, path, code, message):
    installed(tmp_path, "fdllm_faulty", "policies", "faulty", code)
    path(tmp_path)
    sys.modules.pop("fdllm_faulty", None)
    with pytest.raises(
        registry.PluginError, match=rf"policy 'faulty' of fdllm_faulty 1.0 \(fdllm_faulty:Part\) {message}"
    ):
        build("policies", "faulty", UnmaskingPolicy, "policy")
    assert run(["generate", "--set", "policy=faulty", "--prompt", "1"]) == 2


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("step", "", "the engine gives a value of that name; rename it"),
        ("my-signal", "", "a parameter cannot be called that; rename it"),
        ("surprise", "Part = 3", "is not a function; register one"),
    ],
)
def test_a_signal_that_cannot_be_read_is_refused(tmp_path, path, name, code, message):
    installed(tmp_path, "fdllm_signals", "signals", name, code)
    path(tmp_path)
    sys.modules.pop("fdllm_signals", None)

    class Reads(UnmaskingPolicy):
        def __call__(self, masked: Mask, surprise: Probability) -> Mask:
            return masked & (surprise > 0)

    with pytest.raises(
        registry.PluginError, match=rf"signal '{name}' of fdllm_signals 1.0 \(fdllm_signals:Part\):? {message}"
    ):
        fdllm.compile(random_model(), policy=Reads())


# README.md


def tiny():
    return fdllm.load("tiny", device="cpu")


def test_the_embedding_example_runs(capsys):
    (text,) = [block for title, block in blocks("README.md", "python").items() if isinstance(title, int)]
    exec(compile(text, "README.md", "exec"), {})
    assert "forwards" in capsys.readouterr().out


def test_the_config_example_is_a_run(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(blocks("README.md", "toml")["run.toml"])
    config = fdllm.DecodingConfig.from_file(file)
    assert config.compile(tiny()).plan.max_new_tokens == config.generate.max_new_tokens
    short = ["--set", "model.path=tiny", "--set", "model.dtype=float32", "--set", "generate.max_new_tokens=8"]
    assert run(["generate", "--config", str(file), *short, "--prompt", "1+1="]) == 0


def test_the_plugin_example_is_a_plugin(tmp_path, path):
    (name, code), *_ = [(n, c) for n, c in blocks("README.md", "python").items() if isinstance(n, str)]
    points = tomllib.loads(blocks("README.md", "toml")["pyproject.toml"])["project"]["entry-points"]["fdllm.policies"]
    ((policy, target),) = points.items()
    module, kind = target.split(":")
    assert name == f"{module}.py"
    installed(tmp_path, module, "policies", policy, code)
    metadata = tmp_path / f"{module}-1.0.dist-info" / "entry_points.txt"
    metadata.write_text(f"[fdllm.policies]\n{policy} = {target}\n")
    path(tmp_path)
    assert registry.load("policies", policy).__name__ == kind
    assert fdllm.compile(tiny(), policy=policy, max_new_tokens=8).generate("1+1=").nfe <= 8


def test_the_tree_names_everything():
    entries = {line.split()[0] for line in blocks("README.md", "text")["tree"].splitlines()}
    inside = {each.name + "/" * each.is_dir() for each in (ROOT / "fdllm").iterdir()} - {"__pycache__/"}
    assert inside <= entries
    assert [entry for entry in entries - inside if not (ROOT / entry).exists()] == []


# docs/design.md


@pytest.fixture(scope="module")
def explained():
    how = {"cache": "dual", "policy": {"name": "threshold", "threshold": 0.9}, "max_new_tokens": 64}
    return fdllm.compile(tiny(), **how).compiled


def test_the_graph_is_the_one_explain_prints(explained):
    printed = explained.explain(True)
    shown = blocks("docs/design.md", "text")
    for title in ("after resolve", "after fuse"):
        assert f"{title}:\n{shown[title].rstrip()}" in printed
    assert blocks("docs/design.md", "python")["reuse"].rstrip() in printed


def test_the_drawing_is_the_graph(explained):
    (drawn,) = blocks("docs/design.md", "mermaid").values()
    edges = set(re.findall(r"^  (\w+)\S* -- (\w+) --> (\w+)", drawn, re.MULTILINE))
    graph = explained.programs["reuse"].graph
    writers = {value: each.name for each in graph.nodes for value in each.writes}
    expected = {(writers.get(value, "engine"), value, each.name) for each in graph.nodes for value in each.reads} | {
        (writers[value], value, "state") for value in graph.outputs
    }
    assert edges == expected


def modules():
    return {str(path.relative_to(ROOT)) for path in (ROOT / "fdllm").rglob("*.py")}


def test_the_layout_names_every_module():
    named = set(re.findall(r"^(fdllm/\S+)  ", blocks("docs/design.md", "text")["layout"], re.MULTILINE))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    # a package's own file is named where it holds more than a docstring
    bare = {name for name in modules() if len(ast.parse((ROOT / name).read_text()).body) <= 1}
    assert sorted(modules() - named - bare) == []


def imports(name):
    """Modules of fdllm that a module imports, wherever in it."""
    everything = {module.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for module in modules()}
    for each in ast.walk(ast.parse((ROOT / name).read_text())):
        if isinstance(each, ast.ImportFrom) and (each.module or "").startswith("fdllm"):
            for alias in each.names:
                full = f"{each.module}.{alias.name}"
                yield full if full in everything else each.module


def test_imports_run_one_way():
    lines = blocks("docs/design.md", "text")["imports"].splitlines()
    level = {name: i for i, line in enumerate(lines) for name in line.split()}
    for name in sorted(modules() - {"fdllm/__init__.py"}):
        layer = name.split("/")[1].removesuffix(".py")
        for target in imports(name):
            # fdllm itself is its public names
            below = target.split(".")[1] if "." in target else "compiling"
            assert below == layer or level[below] < level[layer], f"{name} imports {target}"
            if below == layer and layer in (
                "attention",
                "caches",
                "policies",
                "schedules",
                "scorers",
                "tasks",
                "temperatures",
            ):
                assert target == f"fdllm.{layer}.base", f"{name} imports {target}, another member of its family"


# docs/tasks.md


def test_the_page_of_results_is_what_was_measured():
    target = ROOT / "docs" / "results.md"
    assert target.read_text() == results.page(ROOT / "docs" / "benchmarks" / "grids", target)


def test_the_grid_on_the_page_is_one():
    grid = Grid.from_dict(tomllib.loads(blocks("docs/benchmarking.md", "toml")[0]))
    assert [[cell.row for cell in group] for group in groups(grid)] == [["one token a step", "dual", "dual"]] * 2
    external = Grid.from_dict(tomllib.loads(blocks("docs/benchmarking.md", "toml")[2]))
    assert groups(external)[0][0].options == {"cache": "dual", "threshold": 0.9}


def test_the_page_of_tasks_is_what_they_say():
    assert (ROOT / "docs" / "tasks.md").read_text() == tasks_markdown(), "docs/tasks.md is old: run `make docs`"


def test_the_task_on_the_page_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    choice, completion = blocks("docs/tasks.md", "json").values()
    Path("questions.jsonl").write_text(choice)
    task = build("tasks", tomllib.loads(blocks("docs/tasks.md", "toml")["a task"])["task"], Task, "task")
    (example,) = task.examples(None)
    assert task.right(example, "answer is A.\n\nanswer is B") and not task.right(example, "answer is B.")
    Path("code.jsonl").write_text(completion)
    code = Jsonl(path="code.jsonl", scorer="python-tests")
    assert [code.right(code.examples(1)[0], text) for text in ("    return a + b", "    return a")] == [True, False]


def test_published_code_tasks_are_converted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # rows with the keys and the form of the published files
    add = {"task_id": "HumanEval/0", "entry_point": "add", "prompt": 'def add(a, b):\n    """Add."""\n'}
    add["test"] = "\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate(1, 2) == 3\n\n"
    double = {
        "task_id": 11,
        "text": "Write a function to double.",
        "test_setup_code": "",
        "test_list": ["assert double(2) == 4"],
    }
    names = {}
    exec(blocks("docs/tasks.md", "python")["convert"], names)
    for name, row, right, wrong in (
        ("humaneval", add, "    return a + b\n", "    return a - b\n"),
        ("mbpp", double, "def double(x):\n    return 2 * x\n```\nIt doubles.", "def double(x):\n    return x\n```"),
    ):
        Path("rows.jsonl").write_text(json.dumps(row) + "\n")
        names["convert"]("rows.jsonl", "task.jsonl", names[name])
        task = Jsonl(path="task.jsonl", scorer="python-tests")
        (example,) = task.examples(None)
        assert example.id == str(row["task_id"]) and task.right(example, right) and not task.right(example, wrong)


PAGES = ["README.md", *(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_files_exist(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []
    named = re.findall(r"`((?:fdllm|tests|docs|plugins)/[\w./-]+)(?:::(\w+))?`", text)
    assert [name for name, _ in named if not (ROOT / name).exists()] == []
    assert [(name, test) for name, test in named if test and f"def {test}(" not in (ROOT / name).read_text()] == []
    assert text.isascii()
