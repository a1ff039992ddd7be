"""One turn of the loop as a function of tensors, and what an execution of it is.

A turn is the step program and the engine's bookkeeping around it: noise keys before it; stale
slots, full windows and rows that are done after it. It reads nothing back from the device and
makes no tensor from host numbers, so it can be compiled, or recorded and replayed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from fdllm.compiler import Program
from fdllm.models.denoiser import Denoiser, Store
from fdllm.models.feed import Feed
from fdllm.noise import slot_keys

# columns of `Given.numbers`
STEP, STEPS, QUOTA, PROMPT, STOP = range(5)


@dataclass(frozen=True)
class Given:
    """Everything a turn reads.

    Attributes:
        state: of the canvas, by the names programs read: `canvas`, `open_slots`, `<name>_column`; and `stale`.
        numbers: for each row, int64[B 5]: step in the window, steps of the window, commits due, slots of
            the prompt, slot behind the window.
        row_keys: noise of seed and row, int64[B 1].
        feed: what the forward computes.
        store: the K/V, or None.

    """

    state: Mapping[str, Tensor]
    numbers: Tensor
    row_keys: Tensor
    feed: Feed
    store: Store | None


@dataclass(frozen=True)
class Outcome:
    """What a turn gives.

    Attributes:
        state: the next state, by the names of `Given.state`.
        status: bool[2 B], rows whose window is full and rows that are done; None where the host counts.
        values: everything the program gave out.
        replayed: whether it came of a record.

    """

    state: Mapping[str, Tensor]
    status: Tensor | None
    values: Mapping[str, Tensor]
    replayed: bool = False


@dataclass(frozen=True)
class Turn:
    """One turn; the attributes hold for a whole decoder.

    Attributes:
        num_new: slots of a response.
        eos_ids: ids that end a row, none where nothing does.
        done_when_full: an eos counts only in a full window, for the policy may reopen slots.
        stores: whether K/V are kept, so that slots can be stale.
        counted: the host knows how many slots are committed, so no status is computed.

    """

    num_new: int
    eos_ids: tuple[int, ...]
    done_when_full: bool
    stores: bool
    counted: bool

    def __call__(self, program: Program, given: Given, run: Callable[..., Any] | None = None) -> Outcome:
        """Take the turn.

        Args:
            program: the step of the phase.
            given: what it reads.
            run: what to call instead of the emitted function, such as the same compiled.

        """
        graph, emitted = program.graph, run or program.run
        told = {name: self._told(name, given) for name in graph.inputs}
        values = dict(zip(graph.outputs, emitted(**told), strict=True))
        state = {name: values[f"next_{name}"] for name in given.state if name != "stale"}
        state["stale"] = self._stale(given, state["canvas"])
        return Outcome(state, None if self.counted else self._status(given, state), values)

    def _told(self, name: str, given: Given) -> Any:
        """Give one input of a program."""
        numbers = given.numbers
        match name:
            case "window":
                return given.feed.window
            case "feed":
                return given.feed
            case "store":
                return given.store
            case "noise":
                return slot_keys(given.row_keys, given.feed.window, numbers[:, STEP : STEP + 1])
            case "step" | "steps" | "quota":
                column = {"step": STEP, "steps": STEPS, "quota": QUOTA}[name]
                return numbers[:, column : column + 1]
            case "progress":
                return 1 - given.state["open_slots"].sum(-1, keepdim=True) / self.num_new
            case _:
                return given.state[name]

    def _stale(self, given: Given, tokens: Tensor) -> Tensor:
        """Keep the ledger of slots whose token changed since their K/V was computed, bool[B N]."""
        stale = given.state["stale"]
        if not self.stores:
            return stale
        stale = pad(stale, (0, 1)).scatter(1, given.feed.slots, False)[:, :-1]
        return stale | (tokens != given.state["canvas"])

    def _status(self, given: Given, state: Mapping[str, Tensor]) -> Tensor:
        """Say which rows have a full window, and which are done, bool[2 B]."""
        tokens, still_open = state["canvas"], state["open_slots"]
        slots = torch.arange(tokens.shape[1], device=tokens.device)
        prompt, stop = given.numbers[:, PROMPT, None], given.numbers[:, STOP, None]
        # windows are filled in order, so whatever is open before the end of one is in it
        full = ~(still_open & (slots < stop)).any(-1)
        if not self.eos_ids:
            return torch.stack([full, torch.zeros_like(full)])
        ends = tokens == self.eos_ids[0]
        for eos in self.eos_ids[1:]:
            ends = ends | (tokens == eos)
        inside = (slots >= prompt) & (slots < prompt + self.num_new)
        done = (ends & inside & (still_open.cumsum(-1) == 0)).any(-1)
        return torch.stack([full, done & full if self.done_when_full else done])


class Execution(ABC):
    """How turns are taken. One object serves one run at a time.

    Law, checked by `fdllm.testing.check_execution`: tokens are those of `eager`.
    """

    def store(self, denoiser: Denoiser, batch: int, slots: int) -> Store:
        """Give an empty store for a run of `batch` rows of `slots` slots."""
        return denoiser.new_store(batch, slots)

    @abstractmethod
    def __call__(self, program: Program, given: Given) -> Outcome:
        """Take a turn. The state given is not used again, and that of the outcome holds until the next turn."""


class ExecutionError(ValueError):
    """Steps cannot be run as asked for; the message says why and what to choose instead."""
