"""Grade-school word problems as published, with worked examples in front.

Source: Cobbe et al. 2021, arXiv:2110.14168; the data set openai/gsm8k. Prompts are put together as the task gsm8k of
lm-evaluation-harness does, with the `<<3*4=12>>` of a calculator left in. Where we differ: the worked examples are the
first of the training split, in its order; the harness draws them.
"""

from pathlib import Path
from typing import Any, final

from pydantic import Field

from fdllm.component import SettingError
from fdllm.scorers.base import Scorer
from fdllm.scorers.last_number import LastNumber
from fdllm.tasks.base import Example, Stop, Task

FILES = {split: f"main/{split}-00000-of-00001.parquet" for split in ("train", "test")}


@final
class Gsm8k(Task):
    """The 1,319 problems of the test split of openai/gsm8k; needs `pip install 'fdllm[tasks]'`."""

    scorer: Scorer = Field(default_factory=LastNumber, description="how a text is judged; unset: `last-number`")
    stop: Stop = Field(("Question:",), description="a text ends before the first of these, wherever it stands")
    path: str = Field(
        "openai/gsm8k", min_length=1, description="a hub id, or a folder laid out as it: " + ", ".join(FILES.values())
    )
    shots: int = Field(5, ge=0, le=100, description="worked examples in front of each problem")
    chat: bool = Field(
        False, description="give conversations, with the worked examples as turns, for the model's chat template"
    )

    def examples(self, limit: int | None) -> list[Example]:
        """Give problems in the order published; the reference is the number behind `####`."""
        shown, asked = self._rows("train", self.shots), self._rows("test", limit)
        if len(shown) < self.shots:
            raise SettingError(
                f"task.shots: {self.path} has {len(shown)} examples to show, wanted {self.shots}; show fewer"
            )
        prompt = conversation if self.chat else continuation
        return [
            Example(f"test {number}", prompt(shown, each["question"]), self._reference(number, each["answer"]))
            for number, each in enumerate(asked)
        ]

    def _reference(self, number: int, answer: str) -> str:
        reference = answer.rpartition("####")[2].strip()
        try:
            self.scorer.check(reference)
        except ValueError as error:
            raise SettingError(f"{self.path}: answer of test {number}: {error}") from None
        return reference

    def _rows(self, split: str, count: int | None) -> list[dict[str, str]]:
        """Give the first rows of a split, `question` and `answer` each."""
        table = load(self.path, split)
        if not {"question", "answer"} <= set(table.column_names):
            columns = ", ".join(table.column_names)
            raise SettingError(f"task.path: {self.path}, {split}: wanted columns question and answer, got {columns}")
        return list(table.select(range(len(table) if count is None else min(count, len(table)))))


def continuation(shown: list[dict[str, str]], question: str) -> str:
    """Write a text that the answer goes on from."""
    worked = "".join(f"Question: {each['question']}\nAnswer: {each['answer']}\n\n" for each in shown)
    return f"{worked}Question: {question}\nAnswer:"


def conversation(shown: list[dict[str, str]], question: str) -> list[dict[str, str]]:
    """Write the same as turns of a user who asks and an assistant who answers."""
    turns = []
    for each in shown:
        turns.append({"role": "user", "content": f"Question: {each['question']}\nAnswer:"})
        turns.append({"role": "assistant", "content": each["answer"]})
    return [*turns, {"role": "user", "content": f"Question: {question}\nAnswer:"}]


def load(path: str, split: str) -> Any:
    """Read a split with the library `datasets`, from the hub or a folder.

    Raises:
        SettingError: the library is missing, a file is, or the hub does not give it.

    """
    try:
        from datasets import load_dataset
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise SettingError("task gsm8k: wants the package datasets; pip install 'fdllm[tasks]'") from None
    folder = Path(path)
    if folder.is_dir():
        absent = [file for file in FILES.values() if not (folder / file).is_file()]
        if absent:
            raise SettingError(f"task.path: {path} has no {' and no '.join(absent)}; lay it out as openai/gsm8k is")
    try:
        if folder.is_dir():
            return load_dataset("parquet", data_files={split: str(folder / FILES[split])}, split=split)
        return load_dataset(path, "main", split=split)
    except (OSError, ValueError) as error:
        raise SettingError(
            f"task.path: {path} cannot be read as the data set gsm8k: {error}; give a hub id within reach, or a folder "
            f"with {' and '.join(FILES.values())}"
        ) from None
