"""The built-in word problems that no model of ours was trained on, with as many worked examples in front as wanted."""

from itertools import islice
from typing import final

from pydantic import Field

from fdllm.scorers.base import Scorer
from fdllm.scorers.last_number import LastNumber
from fdllm.tasks.base import Example, Stop, Task
from fdllm.tiny.problems import Problem, few_shot, held_out, once, problems


@final
class GsmMini(Task):
    """Held-out problems of `fdllm/tiny/problems.py`, each key once.

    The worked examples of a problem come from the training split under a seed of the problem's own, so they are the
    same whatever is asked besides.
    """

    scorer: Scorer = Field(default_factory=LastNumber, description="how a text is judged; unset: `last-number`")
    stop: Stop = Field(("\n\nQuestion:",), description="a text ends before the first of these, wherever it stands")
    size: int = Field(500, ge=1, le=5000, description="problems in all; the first ones of a stream")
    shots: int = Field(0, ge=0, le=100, description="worked examples in front of each problem")
    seed: int = Field(0, ge=0, description="which worked examples are drawn")

    def examples(self, limit: int | None) -> list[Example]:
        """Give problems in the order drawn; an id is a problem's key."""
        asked = held_out(self.size if limit is None else min(limit, self.size))
        return [Example(each.key, few_shot(self.shots_of(each), each), str(each.answer)) for each in asked]

    def shots_of(self, problem: Problem) -> list[Problem]:
        """Draw the worked examples of a problem, of the training split, each key once."""
        return list(islice(once(problems(f"shots {self.seed} {problem.key}", "train")), self.shots))
