"""What a task is: examples in a fixed order, and a scorer that says which texts are right."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, final

from pydantic import BeforeValidator, Field, field_serializer, field_validator

from fdllm.component import Component, build
from fdllm.scorers.base import Scorer


@dataclass(frozen=True)
class Example:
    """One thing to ask.

    Attributes:
        id: its name, unique within the task, the same from run to run.
        prompt: a text, or a conversation for the model's chat template.
        reference: what the scorer compares a text with.

    """

    id: str
    prompt: str | list[dict[str, str]]
    reference: str


def _as_tuple(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


Stop = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_tuple)]


class Task(Component, ABC):
    """Ask a model a number of things, and judge what it answers.

    Laws: examples are the same in every run, with ids that occur once; fewer of them are the first of all.
    """

    scorer: Scorer = Field(
        description="how a text is judged: the name of a scorer, or a table with `name` and its keys"
    )
    stop: Stop = Field((), description="a text ends before the first of these, wherever it stands")

    @field_validator("scorer", mode="before")
    @classmethod
    def _build(cls, given: Any) -> Scorer:
        return build("scorers", given, Scorer, "task.scorer")

    @field_serializer("scorer")
    def _as_table(self, scorer: Scorer) -> dict[str, Any]:
        return {"name": scorer.registered_name("scorers"), **scorer.model_dump(mode="json", exclude_unset=True)}

    @abstractmethod
    def examples(self, limit: int | None) -> list[Example]:
        """Give the first `limit` examples, or all of them.

        Raises:
            SettingError: they cannot be had; the message says why, with file and line where it is a file's fault.

        """

    @final
    def right(self, example: Example, text: str) -> bool:
        """Say whether a generated text is right: cut where it ends, then judged by the scorer."""
        return self.scorer.right(cut(text, self.stop), example.reference)


def cut(text: str, stop: Iterable[str]) -> str:
    """Give the text up to where the first of `stop` begins in it."""
    return text[: min((place for place in map(text.find, stop) if place >= 0), default=len(text))]
