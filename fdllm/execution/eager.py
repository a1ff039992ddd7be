"""Call by call: the plain way."""

from dataclasses import dataclass
from typing import final

from fdllm.compiler import Program
from fdllm.execution.base import Execution, Given, Outcome, Turn


@final
@dataclass
class Eager(Execution):
    """Take each turn as it is written."""

    turn: Turn

    def __call__(self, program: Program, given: Given) -> Outcome:
        """Take a turn; see the base class."""
        return self.turn(program, given)
