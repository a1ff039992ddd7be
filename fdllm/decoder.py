"""The decoder a user holds: generate, stream, explain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version

from torch import Tensor

from fdllm.agenda import Agenda, agenda
from fdllm.caches.base import CachePolicy
from fdllm.compiler import Compiled, compile_step
from fdllm.execution.base import Execution
from fdllm.execution.choose import chosen, make
from fdllm.generation import Event, Generation
from fdllm.loop import Loop, Moment, Run
from fdllm.models.denoiser import Denoiser
from fdllm.prompts import PromptError, Prompts, is_whole, rows_of
from fdllm.schedules.base import Schedule
from fdllm.wiring import Wiring

SHADE = "\N{LIGHT SHADE}"


@dataclass(frozen=True)
class Plan:
    """What a decoder was compiled from, beside the parts of a step; `recommended`: what the model chose itself.

    `execution` is a name of `fdllm.execution.choose`.
    """

    cache: CachePolicy
    schedule: Schedule
    max_new_tokens: int
    stop_at_eos: bool
    recommended: tuple[str, ...] = ()
    execution: str = "auto"


class Decoder:
    """A compiled decoder; make one with `fdllm.compile`."""

    def __init__(self, parts: Wiring, plan: Plan) -> None:
        """Plan the windows and compile the step programs."""
        self.plan = plan
        self.parts = parts
        self.parts = replace(parts, planned=self._agenda(0).planned)
        self.execution = chosen(plan.execution, parts.denoiser)
        self.compiled = compile_step(self.parts, plan.cache)
        # executions of runs that are over, each with what it compiled or recorded
        self._idle: list[Execution] = []
        self._loop = Loop(
            parts.denoiser, plan.cache, cache(self._agenda), plan.max_new_tokens, plan.stop_at_eos, parts.policy
        )

    def _agenda(self, prompt: int) -> Agenda:
        """Plan the response to a prompt of so many slots."""
        return agenda(self.plan.schedule, self.parts.policy, self.model.spec, prompt, self.plan.max_new_tokens)

    @property
    def model(self) -> Denoiser:
        """The model it decodes with."""
        return self.parts.denoiser

    @cached_property
    def _traced(self) -> Compiled:
        """The step programs that give out candidates and confidence as well."""
        return compile_step(self.parts, self.plan.cache, ("candidate", "confidence"))

    def explain(self, source: bool = False) -> str:
        """Print the record, the graph of one step after each pass, and with `source` the emitted programs."""
        record = "\n".join(f"{name}: {value}" for name, value in self.record().items())
        return f"{record}\n\n{self.compiled.explain(source)}"

    def record(self) -> dict[str, str]:
        """What a report of a run has to carry: parts with their settings, versions, device, dtype."""
        plan, parts, model = self.plan, self.parts, self.parts.denoiser
        return {
            "model": model.name,
            "spec": repr(model.spec),
            "schedule": repr(plan.schedule),
            "cache": repr(plan.cache),
            "policy": repr(parts.policy),
            "attention": repr(parts.attention),
            "execution": self.execution if plan.execution != "auto" else f"{self.execution} (auto)",
            "sampling": repr(parts.sampling),
            "kernels": parts.kernels,
            "max_new_tokens": str(plan.max_new_tokens),
            "stop_at_eos": str(plan.stop_at_eos),
            "as the model recommends": ", ".join(plan.recommended) or "nothing",
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "tp": str(model.tp),
            **{name: version(name) for name in ("fdllm", "torch", "transformers")},
        }

    def generate(
        self,
        prompts: Prompts,
        seed: int = 0,
        *,
        attention_mask: Tensor | None = None,
        row_ids: list[int] | None = None,
        trace: bool = False,
    ) -> Generation:
        """Decode a batch.

        Args:
            prompts: text, texts, a conversation (a list of `{"role": ..., "content": ...}`) or several,
                ids, lists of ids (ragged), or int64[B P].
            seed: of the noise, where sampling is on.
            attention_mask: for int64[B P], which ids count; padding on either side.
            row_ids: identity of each row for its noise; its index unless given.
            trace: keep every step of every row.

        Raises:
            fdllm.prompts.PromptError: a prompt cannot be decoded.

        """
        run = self._run(prompts, seed, attention_mask, row_ids, trace)
        for _ in self._steps(run):
            pass
        return self._result(run)

    def stream(self, prompt: Prompts, seed: int = 0) -> Iterator[Event]:
        """Decode one prompt and yield an event per step; a last one carries the result."""
        run = self._run(prompt, seed, None, None, trace=True)
        if len(run.prompts) != 1:
            raise PromptError(f"stream: takes one prompt, got {len(run.prompts)}; use generate for a batch")
        return self._events(run)

    def ids_of(self, prompts: Prompts) -> list[list[int]]:
        """Read prompts as ids and check them, without decoding: what `generate` would start from.

        Raises:
            fdllm.prompts.PromptError: a prompt cannot be decoded.

        """
        return rows_of(prompts, None, self.model, self.plan.max_new_tokens)

    def _run(self, prompts: Prompts, seed: int, mask: Tensor | None, row_ids: list[int] | None, trace: bool) -> Run:
        rows = rows_of(prompts, mask, self.model, self.plan.max_new_tokens)
        ids = list(range(len(rows))) if row_ids is None else list(row_ids)
        if len(ids) != len(rows) or not all(is_whole(i) and -(2**63) <= i < 2**63 for i in ids):
            raise PromptError(f"row_ids: wanted a whole number per prompt ({len(rows)}), in 64 bits, got {row_ids}")
        if not is_whole(seed):
            raise PromptError(f"seed: wanted a whole number, got {seed!r}")
        if not self.together(rows):
            raise PromptError(
                f"prompts: {self.parts.policy!r} reads filled slots of the window, and these prompts end at different "
                f"places of the model's blocks of {self.model.spec.block_length}, so their windows differ; decode them "
                "apart"
            )
        # popped, so that runs that take turns never share buffers
        execution = self._idle.pop() if self._idle else make(self.execution, self._loop.turn, self.model.device)
        return Run(self._loop, self._traced if trace else self.compiled, execution, rows, ids, seed, trace)

    def _steps(self, run: Run) -> Iterator[Moment]:
        """Run to the end, then keep what the execution made for the next run."""
        yield from run.steps()
        self._idle.append(run.execution)

    def together(self, prompts: Sequence[list[int]]) -> bool:
        """Say whether prompts may be one batch: a policy that reads filled slots needs windows of equal length."""
        windows = {self._loop.agenda(len(prompt)).windows for prompt in prompts}
        return len(windows) == 1 or not (self.parts.policy.revokes or self.parts.policy.reads == "window")

    def _result(self, run: Run) -> Generation:
        completions = [run.completion(row) for row in range(len(run.prompts))]
        tokenizer = self.model.tokenizer
        text = None if tokenizer is None else [tokenizer.decode(ids) for ids in completions]
        stats = run.stats()
        trace = run.trace if run.traced else None
        return Generation(run.tokens, completions, text, stats.nfe, run.accounts.row_nfe, stats, trace)

    def _events(self, run: Run) -> Iterator[Event]:
        for moment in self._steps(run):
            yield self._event(run, moment)
        out = self._result(run)
        text = out.text[0] if out.text else ""
        tokens = out.tokens[0]
        yield Event(tokens, tokens.ne(tokens), tokens, text, text, text, out.nfe, True, out)

    def _event(self, run: Run, moment: Moment) -> Event:
        at, (window,) = moment.canvas.response()[0], moment.windows
        tokens, still_open = moment.canvas.tokens[0, at].cpu(), moment.canvas.open_slots[0, at].cpu()
        provisional = tokens.clone()
        inside = slice(window.start, window.stop)
        provisional[inside] = moment.values["candidate"][0].cpu().where(still_open[inside], tokens[inside])
        pieces = self._pieces(tokens, still_open)
        settled = pieces[0] if not bool(still_open[0]) else ""
        later = still_open.clone()
        later[inside] = False
        nfe = run.accounts.nfe
        guessed = "".join(self._pieces(provisional, later))
        return Event(tokens, still_open, provisional, settled, "".join(pieces), guessed, nfe, False, None)

    def _pieces(self, tokens: Tensor, hidden: Tensor) -> list[str]:
        """Text of stretches of shown slots, shade blocks for stretches of hidden ones."""
        return [self._piece(part, flag) for part, flag in _runs(tokens.tolist(), hidden.tolist())]

    def _piece(self, ids: list[int], is_open: bool) -> str:
        if is_open:
            return SHADE * len(ids)
        tokenizer = self.model.tokenizer
        return "" if tokenizer is None else str(tokenizer.decode(ids, skip_special_tokens=True))


def _runs(ids: list[int], flags: list[bool]) -> list[tuple[list[int], bool]]:
    """Cut ids into stretches of one flag."""
    found: list[tuple[list[int], bool]] = []
    for token, flag in zip(ids, flags, strict=True):
        if not found or found[-1][1] != flag:
            found.append(([], flag))
        found[-1][0].append(token)
    return found
