"""Laws of tasks and scorers."""

import pickle

from hypothesis import given, settings
from hypothesis import strategies as st

from fdllm.chat import is_conversation
from fdllm.scorers.base import Scorer
from fdllm.tasks.base import Example, Task


def check_task(task: Task, limit: int = 20) -> None:
    """Hold the laws of tasks on the first examples, at least one of which there must be.

    Args:
        task: what is checked.
        limit: how many examples are looked at.

    """
    found = task.examples(limit)
    assert 0 < len(found) <= limit, f"{task!r}: {len(found)} examples where 1 to {limit} were asked for"
    assert len({example.id for example in found}) == len(found), f"{task!r}: two examples have one id"
    # another object, as another process would build it
    assert pickle.loads(pickle.dumps(task)).examples(limit) == found, f"{task!r}: a second look gives other examples"
    fewer = len(found) // 2
    assert task.examples(fewer) == found[:fewer], f"{task!r}: fewer examples are not the first of more"
    for example in found:
        _check_example(task, example)


def _check_example(task: Task, example: Example) -> None:
    what = f"{task!r}: example {example.id!r}"
    assert example.id and example.prompt, f"{what}: an empty id or prompt"
    if not isinstance(example.prompt, str):
        assert is_conversation(example.prompt), f"{what}: the prompt is neither a text nor a list of messages"
        assert all(set(message) == {"role", "content"} for message in example.prompt), f"{what}: a message is none"
    try:
        task.scorer.check(example.reference)
    except ValueError as error:
        raise AssertionError(f"{what}: its own scorer refuses the reference: {error}") from None
    assert task.right(example, "") in (True, False), f"{what}: an empty text is neither right nor wrong"


def check_scorer(scorer: Scorer, reference: str, answer: str, texts: int = 100) -> None:
    """Hold the laws of scorers for one reference, over texts drawn from pieces of the reference and from anything.

    Args:
        scorer: what is checked.
        reference: one that its `check` accepts.
        answer: a text that is right.
        texts: how many texts are drawn.

    """
    scorer.check(reference)
    assert scorer.right(answer, reference) is True, f"{scorer!r}: {answer!r} should answer {reference!r}"
    pieces = st.sampled_from([reference, answer, answer[: len(answer) // 2], "\n", " "])

    @settings(max_examples=texts, deadline=None, derandomize=True, database=None)
    @given(st.lists(pieces | st.text(), max_size=5).map("".join))
    def law(text: str) -> None:
        found = scorer.right(text, reference)
        assert isinstance(found, bool), f"{scorer!r}: {found!r} is neither True nor False"
        assert scorer.right(text, reference) is found, f"{scorer!r}: {text!r} is judged once so and once so"

    law()
