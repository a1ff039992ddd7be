"""Step programs compiled by torch.compile, forward, policy and commit in one.

A function is compiled for the shapes it is first called with. When a dim changes, it is compiled
once more with that dim free, so that the blocks of a run, and prompts of other lengths, share one
compilation. The store's buffers appear with its first forward, which is therefore run as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch

from fdllm.compiler import Program
from fdllm.execution.base import Execution, Given, Outcome, Turn
from fdllm.models.denoiser import Store


@final
@dataclass
class Compiled(Execution):
    """Compile each program at its first call after the store has buffers."""

    turn: Turn
    backend: str = "inductor"
    _made: dict[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict, init=False)
    _seen: Store | None = field(default=None, init=False)

    def __call__(self, program: Program, given: Given) -> Outcome:
        """Take a turn; see the base class."""
        given = replace(given, feed=given.feed.by_tensors())
        if given.store is not self._seen:
            self._seen = given.store
            return self.turn(program, given)
        if program.run not in self._made:
            self._made[program.run] = torch.compile(program.run, backend=self.backend)
        if given.feed.visible is not None:
            # made here, once for a plan: a compiled step reads it
            _ = given.feed.visible.mask
        return self.turn(program, given, self._made[program.run])
