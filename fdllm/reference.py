"""The reference decoder: one row, no cache, every step a whole forward, everything spelled out.

It shares with the fast decoder only what defines the result: the policy, the signals, the
noise. No graph, no batch, no store, no index tensors. Slow on purpose; read it by eye.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

import torch
from torch import Tensor

from fdllm import registry
from fdllm.columns import PREVIOUS, Column
from fdllm.models.spec import Spec
from fdllm.noise import gumbel, keys, random_ids, uniform
from fdllm.policies.base import UnmaskingPolicy
from fdllm.schedules.base import Schedule
from fdllm.temperatures.base import TemperatureSchedule
from fdllm.types import port_of


@dataclass(frozen=True)
class Reference:
    """The settings of a run; fields as in `fdllm.compile`.

    Attributes:
        logits: int64[1 n] -> float[1 n V], logits of every slot as the published forward returns them;
            for a causal prefix, of ids that end with the window.

    """

    logits: Callable[[Tensor], Tensor]
    spec: Spec
    policy: UnmaskingPolicy
    schedule: Schedule
    max_new_tokens: int
    temperature: float | TemperatureSchedule = 0.0
    top_p: float | None = None
    top_k: int | None = None
    stop_at_eos: bool = True

    @torch.inference_mode()
    def decode(self, prompt: list[int], seed: int = 0, row_id: int = 0) -> tuple[list[int], int]:
        """Decode one prompt; return the response canvas and the number of forwards."""
        new = list(range(len(prompt), len(prompt) + self.max_new_tokens))
        tokens = [*prompt, *self._blanks(keys(seed, torch.tensor([[row_id]]), torch.tensor([new]), -1))]
        is_open = [False] * len(prompt) + [True] * self.max_new_tokens
        grid = self.spec.block_length if self.spec.pattern == "block-causal" else 1
        windows = self.schedule.windows(self.max_new_tokens, len(prompt) % grid)
        nfe = 0
        for window in windows:
            slots = [len(prompt) + slot for slot in window]
            quotas = self.policy.quotas(len(slots), len(windows))
            due = [quota for quota in quotas or () if quota]
            steps = self.policy.num_steps(len(slots), len(windows)) or len(due) or len(slots)
            seen = slots[-1] + 1 if self.spec.pattern == "causal-prefix" else len(tokens)
            carried: dict[str, Tensor] = {}
            step = 0
            while any(is_open[s] for s in slots):
                logits = self.logits(torch.tensor([tokens[:seen]]))[0]
                rows = torch.stack([logits[s - 1 if self.spec.shift else s] for s in slots])[None]
                nfe += 1
                values = Values(self, rows, tokens, is_open, slots, seed, row_id, step, steps, carried)
                if quotas is not None:
                    values.known["quota"] = torch.tensor([[due[step] if step < len(due) else len(slots)]])
                commit, reopen, draft = self._choice(values, last=step == steps - 1)
                decided = values["likeliest" if self.policy.drafts else "candidate"][0].tolist()
                blanks = self._blanks(values.noise)
                for i, s in enumerate(slots):
                    if commit[i]:
                        tokens[s], is_open[s] = decided[i], False
                    elif reopen[i]:
                        tokens[s], is_open[s] = blanks[i], True
                    elif is_open[s] and self.policy.drafts:
                        tokens[s] = int(values["candidate"][0, i]) if draft[i] else blanks[i]
                step += 1
                if self._ended(tokens[len(prompt) :], is_open[len(prompt) :], [is_open[s] for s in slots]):
                    return self._filled(tokens[len(prompt) :]), nfe
        return self._filled(tokens[len(prompt) :]), nfe

    def temperature_at(self, step: int, steps: int) -> float:
        """Give the sampling temperature of a step."""
        if isinstance(self.temperature, TemperatureSchedule):
            return float(self.temperature(torch.tensor([[step]]), torch.tensor([[steps]])))
        return self.temperature

    def _blanks(self, noise: Tensor) -> list[int]:
        """What undecided slots hold: the mask id, or ids by chance."""
        if self.spec.mask_id is not None:
            return [self.spec.mask_id] * noise.shape[1]
        assert self.spec.vocab_size is not None
        ids: list[int] = random_ids(noise, self.spec.vocab_size)[0].tolist()
        return ids

    def _choice(self, values: "Values", last: bool) -> tuple[list[bool], list[bool], list[bool]]:
        """Ask the policy, then hold legality and progress: what to commit, to reopen, to draft."""
        answer = values.call(self.policy.rule())
        answer = {"commit": answer} if isinstance(answer, Tensor) else answer._asdict()
        for name in self.policy.columns:
            values.carried[name] = answer[name]
        for name in values.previous:
            values.carried[PREVIOUS + name] = values[name]
        is_open = values["masked"][0].tolist()
        commit = [c and o for c, o in zip(answer["commit"][0].tolist(), is_open, strict=True)]
        if self.policy.drafts:
            commit = [o and (c or last) for c, o in zip(commit, is_open, strict=True)]
            return commit, [False] * len(commit), answer["draft"][0].tolist()
        if not any(commit):
            scores = [c if o else -1.0 for c, o in zip(values["confidence"][0].tolist(), is_open, strict=True)]
            commit[scores.index(max(scores))] = True
        reopen, left = [False] * len(commit), sum(commit) - 1
        if self.policy.revokes:
            for i, asked in enumerate(answer["reopen"][0].tolist()):
                if asked and not is_open[i] and left > 0:
                    reopen[i], left = True, left - 1
        return commit, reopen, []

    def _ended(self, tokens: list[int], is_open: list[bool], window_open: list[bool]) -> bool:
        """Say whether an eos stands with no open slot before it."""
        if not self.stop_at_eos or (self.policy.revokes and any(window_open)):
            return False
        for token, still_open in zip(tokens, is_open, strict=True):
            if still_open:
                return False
            if token in self.spec.eos_ids:
                return True
        return False

    def _filled(self, tokens: list[int]) -> list[int]:
        """Fill with the first eos what follows it."""
        if self.stop_at_eos:
            for i, token in enumerate(tokens):
                if token in self.spec.eos_ids:
                    return tokens[:i] + [token] * (len(tokens) - i)
        return tokens


class Values:
    """The values of one step by name, each computed when asked for."""

    def __init__(
        self,
        run: Reference,
        rows: Tensor,
        tokens: list[int],
        is_open: list[bool],
        slots: list[int],
        seed: int,
        row_id: int,
        step: int,
        steps: int,
        carried: dict[str, Tensor],
    ) -> None:
        """Start from what the engine gives."""
        response_open = sum(is_open)
        self.run = run
        self.carried = carried
        self.previous: list[str] = []
        self.noise = keys(seed, torch.tensor([[row_id]]), torch.tensor([slots]), step)
        self.temperature = run.temperature_at(step, steps)
        if run.policy.tempered and self.temperature:
            rows, self.temperature = rows.float() / self.temperature, 1.0
        self.known = {
            "logits": self._narrowed(rows),
            "masked": torch.tensor([[is_open[s] for s in slots]]),
            "tokens": torch.tensor([[tokens[s] for s in slots]]),
            "step": torch.tensor([[step]]),
            "steps": torch.tensor([[steps]]),
            "progress": 1 - torch.tensor([[response_open]]) / run.max_new_tokens,
            "uniform": uniform(self.noise, -1),
        }
        self.known["candidate"] = self._drawn(self.known["logits"])
        self.known["likeliest"] = self._legal(self.known["logits"]).argmax(-1)

    def __getitem__(self, name: str) -> Tensor:
        """Find a value: given, carried from the step before, or a registered signal."""
        if name in self.known:
            return self.known[name]
        if name in self.run.policy.columns:
            return self.carried.get(name, self._blank(name))
        if name.startswith(PREVIOUS):
            source = name.removeprefix(PREVIOUS)
            self.previous.append(source)
            now = self[source]
            nothing = torch.full_like(now, float("nan") if now.is_floating_point() else -1)
            nothing = nothing[:, :0, :0] if source == "logits" else nothing
            return self.carried.get(name, nothing)
        self.known[name] = self.call(registry.load("signals", name))
        return self.known[name]

    def _blank(self, name: str) -> Tensor:
        """A column of the policy as a block begins."""
        port = port_of(get_type_hints(self.run.policy.rule(), include_extras=True)[name])
        return Column(port, self.run.policy.columns[name]).blank(1, self["masked"].shape[1], self["masked"].device)

    def call(self, fn: Callable[..., Any]) -> Any:
        """Call a function with the values its parameters name."""
        return fn(*(self[name] for name in inspect.signature(fn).parameters))

    def _legal(self, scores: Tensor) -> Tensor:
        scores = scores.clone()
        if self.run.spec.mask_id is not None:
            scores[..., self.run.spec.mask_id] = -torch.inf
        if self.run.spec.vocab_size is not None:
            scores[..., self.run.spec.vocab_size :] = -torch.inf
        return scores

    def _drawn(self, logits: Tensor) -> Tensor:
        """Take the likeliest legal id, or draw one by Gumbel-max."""
        if self.temperature == 0:
            return self._legal(logits).argmax(-1)
        return self._legal(logits.float() / self.temperature + gumbel(self.noise, logits)).argmax(-1)

    def _narrowed(self, rows: Tensor) -> Tensor:
        """Apply top_p, then top_k, id by id; the likeliest legal id always stays."""
        rows = rows.clone()
        for row in rows[0]:
            best = int(self._legal(row).argmax())
            kept = row[best].clone()
            if self.run.top_p is not None:
                chances = (row.float() / (self.temperature or 1.0)).softmax(-1)
                total = 0.0
                for i in chances.argsort(descending=True, stable=True).tolist():
                    if total > self.run.top_p:
                        row[i] = -torch.inf
                    total += float(chances[i])
            if self.run.top_k is not None:
                last = row.sort(descending=True).values[min(self.run.top_k, len(row)) - 1]
                row[row < last] = -torch.inf
            row[best] = kept
        return rows
