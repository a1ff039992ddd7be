"""What a row fills, in order: its decode windows, and the commits due at each step of them."""

from dataclasses import dataclass

from fdllm.models.spec import Spec
from fdllm.policies.base import UnmaskingPolicy
from fdllm.schedules.base import Schedule


class ScheduleError(ValueError):
    """A schedule's windows do not suit the response or the model; the message says why."""


@dataclass(frozen=True)
class Agenda:
    """The way through one response.

    Attributes:
        windows: decode windows as ranges of response slots.
        due: for each window the commits of its steps, those due nothing left out; empty where the
            policy has no plan.
        planned: whether the policy has a plan.
        bounds: for each window the policy's bound on its steps, None where every step commits something.

    """

    windows: tuple[range, ...]
    due: tuple[tuple[int, ...], ...]
    planned: bool
    bounds: tuple[int | None, ...]

    def quota(self, block: int, index: int) -> int:
        """Commits due at a step; where a plan is too short, all that is left."""
        due = self.due[block]
        return due[index] if index < len(due) else len(self.windows[block])

    def num_steps(self, block: int) -> int:
        """Steps of a window: the policy's bound, those of its plan, or at most one a slot."""
        return self.bounds[block] or len(self.due[block]) or len(self.windows[block])

    def filled(self, block: int, steps: int) -> bool:
        """Say whether a window is full after so many steps, each of which commits exactly its quota."""
        return sum(self.quota(block, index) for index in range(steps)) >= len(self.windows[block])

    def limit(self, block: int) -> int:
        """Steps after which a window is full whatever the policy does: its bound, or one a slot."""
        return self.bounds[block] or len(self.windows[block])


def agenda(schedule: Schedule, policy: UnmaskingPolicy, spec: Spec, prompt: int, num_new: int) -> Agenda:
    """Plan the response to a prompt of `prompt` slots.

    Raises:
        ScheduleError: windows that do not cover the response, or cross a block of the model.
        ValueError: the policy's steps do not fit the windows.

    """
    causal = spec.pattern == "block-causal"
    windows = schedule.windows(num_new, prompt % spec.block_length if causal else 0)
    edges = [0, *(window.stop for window in windows)]
    if [*map(range, edges, edges[1:])] != [*windows] or edges[-1] != num_new or not all(windows):
        raise ScheduleError(f"{schedule!r}: {windows} do not cover {num_new} slots once, in order")
    size = spec.block_length
    if causal and any((prompt + w.start) // size != (prompt + w.stop - 1) // size for w in windows):
        raise ScheduleError(
            f"{schedule!r}: its windows cross the model's blocks of {size} slots; "
            f"give a schedule.block_length that divides {size}"
        )
    if spec.pattern == "causal-prefix" and len(set(map(len, windows))) > 1:
        lengths = ", ".join(map(str, sorted({*map(len, windows)})))
        raise ScheduleError(
            f"max_new_tokens: {num_new} slots in windows of {lengths}, but the model decodes windows of one length; "
            "give a multiple of the block_length"
        )
    quotas = [_quotas(policy, len(window), len(windows)) for window in windows]
    due = tuple(tuple(quota for quota in each or () if quota) for each in quotas)
    bounds = tuple(policy.num_steps(len(window), len(windows)) for window in windows)
    if policy.drafts and not all(bounds):
        raise ScheduleError(f"{policy!r} drafts, so its num_steps() must bound the steps of a window; got {bounds[0]}")
    return Agenda(windows, due, quotas[0] is not None, bounds)


def _quotas(policy: UnmaskingPolicy, num_open: int, num_blocks: int) -> tuple[int, ...] | None:
    """Ask for the plan of a window, and hold that it fills it."""
    quotas = policy.quotas(num_open, num_blocks)
    if quotas is not None and (min(quotas, default=0) < 0 or sum(quotas) != num_open):
        raise ScheduleError(f"{policy!r}: quotas() must sum to the {num_open} open slots, none below 0; got {quotas}")
    return quotas
