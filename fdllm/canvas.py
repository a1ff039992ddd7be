"""The canvas: tokens and state of every slot of a batch, owned by the engine.

A row is its prompt, then `max_new_tokens` slots, then padding up to the longest row; slot =
absolute position. Whether a slot is open is a state of its own, never `token == mask id`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fdllm.columns import Column


@dataclass(frozen=True)
class Canvas:
    """State that one step hands to the next.

    Attributes:
        rows: index of each row in the call, in batch order.
        row_ids: identity of each row for its noise.
        prompts: prompt length of each row, in slots.
        num_new: slots of the response.
        tokens: int64[B N].
        open_slots: slots not decided yet, bool[B N].
        stale: slots whose token changed since their K/V was computed, bool[B N]; they all are at first.
        columns: further state by name, [B N] or [B 1].

    """

    rows: tuple[int, ...]
    row_ids: tuple[int, ...]
    prompts: tuple[int, ...]
    num_new: int
    tokens: Tensor
    open_slots: Tensor
    stale: Tensor
    columns: Mapping[str, Tensor]

    @property
    def lengths(self) -> list[int]:
        """Slots of each row, padding left out."""
        return [prompt + self.num_new for prompt in self.prompts]

    @property
    def state(self) -> dict[str, Tensor]:
        """What a step reads and writes, by the names programs use; and `stale`."""
        columns = {f"{name}_column": column for name, column in self.columns.items()}
        return {"canvas": self.tokens, "open_slots": self.open_slots, "stale": self.stale, **columns}

    def after(self, state: Mapping[str, Tensor]) -> "Canvas":
        """Copy with the next state."""
        columns = {name: state[f"{name}_column"] for name in self.columns}
        tokens, open_slots, stale = (state[name] for name in ("canvas", "open_slots", "stale"))
        return replace(self, tokens=tokens, open_slots=open_slots, stale=stale, columns=columns)

    def look(self, i: int, column: str) -> list[int]:
        """Read from the device which slots of a row of the batch are set in `stale` or `open_slots`."""
        flags: Tensor = getattr(self, column)
        return flags[i, : self.lengths[i]].nonzero().flatten().tolist()

    def response(self) -> Tensor:
        """Index of the response slots, int64[B num_new]."""
        starts = torch.tensor(self.prompts, dtype=torch.int64, device=self.tokens.device)[:, None]
        return starts + torch.arange(self.num_new, device=self.tokens.device)

    def keep(self, indices: list[int]) -> "Canvas":
        """Copy with some rows of the batch, by batch index, cut to the longest of them."""
        at = torch.tensor(indices, dtype=torch.int64, device=self.tokens.device)
        longest = max((self.lengths[i] for i in indices), default=0)
        return replace(
            self,
            rows=tuple(self.rows[i] for i in indices),
            row_ids=tuple(self.row_ids[i] for i in indices),
            prompts=tuple(self.prompts[i] for i in indices),
            tokens=self.tokens[at, :longest],
            open_slots=self.open_slots[at, :longest],
            stale=self.stale[at, :longest],
            columns={name: column[at, :longest] for name, column in self.columns.items()},
        )


def start(
    prompts: list[list[int]],
    row_ids: list[int],
    num_new: int,
    blanks: Tensor,
    columns: Mapping[str, Column],
    device: torch.device,
) -> Canvas:
    """Lay out prompts and open slots, which hold `blanks` (int64[B num_new]), every column at its fill."""
    num_slots = max(map(len, prompts)) + num_new
    tokens = torch.zeros(len(prompts), num_slots, dtype=torch.int64)
    open_slots = torch.zeros(len(prompts), num_slots, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = torch.tensor(prompt)
        tokens[row, len(prompt) : len(prompt) + num_new] = blanks[row]
        open_slots[row, len(prompt) : len(prompt) + num_new] = True
    return Canvas(
        rows=tuple(range(len(prompts))),
        row_ids=tuple(row_ids),
        prompts=tuple(map(len, prompts)),
        num_new=num_new,
        tokens=tokens.to(device),
        open_slots=open_slots.to(device),
        stale=torch.ones_like(open_slots).to(device),
        columns={name: column.blank(len(prompts), num_slots, device) for name, column in columns.items()},
    )
