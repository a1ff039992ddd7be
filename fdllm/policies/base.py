"""What an unmasking policy is: a pure rule from signals of the open slots to `commit these`."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from fdllm.component import Component


class UnmaskingPolicy(Component):
    """Choose the open slots of the decode window to commit in this step.

    The parameter names of `__call__` say which values it reads and their annotations say what
    kind each must be: `masked`, `tokens`, `candidate`, `likeliest`, any signal (`confidence`, `margin`,
    `entropy`, `current_probability` ...), `previous_<signal>`, `quota`, `step`, `steps`,
    `progress`, `uniform`, and the policy's own columns. It returns a `Mask`, or a NamedTuple
    with `commit: Mask`, `reopen: Mask` when `revokes`, `draft: Mask` when `drafts`, and one field
    per own column.

    A policy keeps no state and draws no random numbers: the engine owns both.

    Laws, checked by `fdllm.testing.check_policy`:
        only open slots are committed or drafted, only committed slots of the window reopened;
        the same values give the same choice;
        a row's choice does not depend on the rows around it;
        no value it reads is changed;
        with `progresses`, every row with an open slot gets at least one commit;
        with `punctual`, every row gets exactly `quota` commits, or all its open slots where they are fewer;
        with `monotone`, raising that setting never commits more slots.

    Attributes:
        reads: which slots' signals the rule looks at: `open` ones alone or the whole `window`.
        revokes: the rule may reopen committed slots of the window.
        progresses: the rule always commits at least one open slot of a row that has one, so the
            engine adds no floor (the floor reads `confidence`).
        punctual: the rule always commits exactly `quota` open slots, or all where fewer are open, so the host
            can count and need not ask the device which windows are full.
        drafts: open slots may hold a draft. The rule also returns `draft`: the open slots that keep
            their candidate for the next step without being committed; every other open slot is
            blank again (the mask id, or a new random id). What is committed is the likeliest id.
            There is no floor: the window ends with step `num_steps`, which commits all that is open.
        tempered: every signal is of the logits divided by the sampling temperature, not of those at 1.
        monotone: a setting that only ever commits fewer slots as it grows, or "".
        columns: own per-slot state: name to the value it starts with in every block.

    """

    reads: ClassVar[Literal["open", "window"]] = "open"
    revokes: ClassVar[bool] = False
    progresses: ClassVar[bool] = False
    punctual: ClassVar[bool] = False
    drafts: ClassVar[bool] = False
    tempered: ClassVar[bool] = False
    monotone: ClassVar[str] = ""
    columns: ClassVar[Mapping[str, float]] = {}

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the slots to commit now, bool[B W], a subset of `masked`."""

    def rule(self) -> Callable[..., Any]:
        """Return the callable whose signature is wired: itself, unless a setting changes what is read."""
        return self.__call__

    def quotas(self, num_open: int, num_blocks: int) -> tuple[int, ...] | None:
        """Plan the commits of each step of a block, or None when the rule needs no plan.

        Args:
            num_open: open slots of the block when it begins.
            num_blocks: blocks of the whole response.

        Returns:
            Commits due at step 0, 1, ...; they sum to `num_open`. A step of 0 is not run.

        Raises:
            ValueError: the settings do not fit the blocks.

        """
        del num_open, num_blocks
        return None

    def num_steps(self, num_open: int, num_blocks: int) -> int | None:
        """Bound the steps of a window; a rule that drafts must.

        Args:
            num_open: open slots of the window when it begins.
            num_blocks: windows of the whole response.

        Returns:
            The most steps, at least 1, or None when every step commits something anyway.

        """
        del num_open, num_blocks
        return None
