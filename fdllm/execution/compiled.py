"""Step programs compiled by torch.compile, forward, policy and commit in one.

Rows, width of the window and whether there is a mask each have a function of their own, for torch
gives up on a function after eight forms of it. In one of them the slots that are computed and the
slots of the canvas may vary: torch leaves them free once it has met two sizes, so that the blocks of a run and
prompts of any length share a compilation. The store's buffers appear with its first forward, which
is therefore run as it is.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch

from fdllm.compiler import Program
from fdllm.execution.base import Execution, Given, Outcome, Turn
from fdllm.graph import emit
from fdllm.models.denoiser import Store


@final
@dataclass
class Compiled(Execution):
    """Compile each program at its first call after the store has buffers."""

    turn: Turn
    backend: str = "inductor"
    _made: dict[Hashable, Callable[..., Any]] = field(default_factory=dict, init=False)
    _seen: Store | None = field(default=None, init=False)

    def __call__(self, program: Program, given: Given) -> Outcome:
        """Take a turn; see the base class."""
        given = replace(given, feed=given.feed.by_tensors())
        if given.store is not self._seen:
            self._seen = given.store
            return self.turn(program, given)
        visible = given.feed.visible
        if visible is not None:
            # made here, once for a plan: a compiled step reads it
            _ = visible.mask
        key = (program.run, given.feed.window.shape, visible is None)
        if key not in self._made:
            fresh = emit(program.graph, f"{program.phase}_step")
            self._made[key] = torch.compile(fresh, backend=self.backend)
        return self.turn(program, given, self._made[key])
