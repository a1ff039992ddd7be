"""Write `docs/tasks.md` from the tasks and scorers: `python -m fdllm.cli.task_docs > docs/tasks.md`."""

from fdllm.cli.config_docs import keys, own, summary

HEAD = """# Tasks and scorers

<!-- written by `make docs` from the components; do not edit -->

A task is what a model is asked: examples in a fixed order, each with an id, a prompt and a reference. A scorer says
whether a generated text answers a reference. Both are components, found by name; `fdllm list tasks` and
`fdllm list scorers` say what is installed, and [plugins.md](plugins.md) how a package adds its own. In a table the keys
stand beside `name`:

```toml
# a task
[task]
name = "jsonl"
path = "questions.jsonl"
stop = ["\\n\\n"]

[task.scorer]
name = "regex"
pattern = "answer is ([A-D])"
```

A file for `jsonl` has one object a line:

```json
{"prompt": "Which is a fruit? A pear, B pen. The ", "answer": "A"}
```

## Code with tests

`python-tests` runs a program: the reference, with the code of the text in its line `# completion`, or in front of it
where it has no such line. For a completion, as in HumanEval, the prompt's own code stands above that line:

```json
{"prompt": "def add(a, b):\\n", "answer": "def add(a, b):\\n# completion\\nassert add(1, 2) == 3\\n"}
```

This writes the published HumanEval.jsonl as such a task, then MBPP's mbpp.jsonl, whose texts are whole functions:

```python
# convert
import json


def humaneval(row: dict) -> dict:
    tests = f"# completion\\n{row['test']}\\ncheck({row['entry_point']})\\n"
    return {"id": row["task_id"], "prompt": row["prompt"], "answer": row["prompt"] + tests}


def mbpp(row: dict) -> dict:
    tests = "\\n".join([row["test_setup_code"], *row["test_list"]])
    prompt = f"{row['text']} Your code should pass these tests:\\n\\n{tests}\\n\\n```python\\n"
    return {"id": row["task_id"], "prompt": prompt, "answer": tests}


def convert(source: str, target: str, line) -> None:
    with open(source) as rows, open(target, "w") as out:
        out.writelines(json.dumps(line(json.loads(row))) + "\\n" for row in rows)
```

For HumanEval a base model's text ends at `stop = ["\\nclass ", "\\ndef ", "\\n#", "\\nif ", "\\nprint("]`; for MBPP
at `` stop = ["\\n```"] ``. The programs run with limits of time and memory, in a process and a directory of their own.
That limits accidents; it is no wall against hostile code. Run what you do not trust in a container.
"""


def tasks_markdown() -> str:
    """Give the whole page: what tasks are, then every task and scorer that fdllm itself registers."""
    parts = [HEAD]
    for title, group in (("Tasks", "tasks"), ("Scorers", "scorers")):
        parts.append(f"## {title}\n")
        for name, kind in own(group):
            parts += [f'### name = "{name}"\n\n{summary(kind)}\n', keys(kind)]
    return "\n".join(parts)


if __name__ == "__main__":
    print(tasks_markdown(), end="")
