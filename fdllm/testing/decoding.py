"""Compiled decoding against the reference; the laws of schedules and of passes."""

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from fdllm.agenda import agenda
from fdllm.caches.base import CachePolicy
from fdllm.compiling import compile as compile_decoder
from fdllm.component import build
from fdllm.graph import Graph, check, emit
from fdllm.models.denoiser import Denoiser
from fdllm.models.spec import Spec
from fdllm.passes.resolve import resolve
from fdllm.policies.base import UnmaskingPolicy
from fdllm.policies.threshold import Threshold
from fdllm.reference import Reference
from fdllm.schedules.base import Schedule
from fdllm.schedules.blocks import Blocks
from fdllm.temperatures.base import LEAST, MOST, TemperatureSchedule
from fdllm.temperatures.linear import Linear
from fdllm.testing.strategies import few, many, tasks
from fdllm.wiring import Sampling


def check_decoding(
    *,
    policy: UnmaskingPolicy | None = None,
    schedule: Schedule | None = None,
    cache: str | CachePolicy = "none",
    temperature: TemperatureSchedule | None = None,
) -> None:
    """Compare compiled decoding with the reference over drawn models, ragged prompts, blocks and sampling.

    Args:
        policy: the rule to decode with; `threshold` 0.9 unless given.
        schedule: the windows; drawn blocks unless given.
        cache: must be exact, as `none` is.
        temperature: of every step; numbers and a schedule are drawn unless given.

    """
    rule = policy or Threshold()
    kept = build("caches", cache, CachePolicy, "cache")
    samplings = st.sampled_from(
        [Sampling(temperature)]
        if temperature
        else [
            Sampling(),
            Sampling(),
            Sampling(1.0),
            Sampling(0.7, top_p=0.8),
            Sampling(0.0, 0.9, 5),
            Sampling(Linear(start=1.5, end=0.5)),
            *[Sampling(Linear(start=0.9, end=0.3), top_k=6)] * rule.tempered,
        ]
    )

    @few
    @given(tasks(kept.patterns), samplings, st.integers(0, 2**40), st.booleans())
    def equal(task: tuple[Denoiser, list[list[int]], int, int], how: Sampling, seed: int, stop_at_eos: bool) -> None:
        model, prompts, num_new, block = task
        cut = schedule or Blocks(block_length=block)
        if model.spec.pattern == "block-causal" and (rule.revokes or rule.reads == "window"):
            prompts = prompts[:1]  # such a policy takes no windows of unequal length in one batch
        _assume_planned(rule, cut, model.spec, prompts, num_new)
        drawn: dict[str, Any] = {
            "temperature": how.temperature,
            "top_p": how.top_p,
            "top_k": how.top_k,
            "stop_at_eos": stop_at_eos,
        }
        decoder = compile_decoder(model, cache=kept, policy=rule, schedule=cut, max_new_tokens=num_new, **drawn)
        out = decoder.generate(prompts, seed=seed)
        plain = Reference(model.logits, model.spec, rule, cut, num_new, **drawn)
        expected = [plain.decode(prompt, seed, i) for i, prompt in enumerate(prompts)]
        assert out.tokens.tolist() == [tokens for tokens, _ in expected], f"{rule!r}: tokens differ from the reference"
        assert out.nfe >= max(nfe for _, nfe in expected), f"{rule!r}: fewer forwards than the longest row needs"
        ways = [agenda(cut, rule, model.spec, len(prompt), num_new) for prompt in prompts]
        most = max(sum(map(way.limit, range(len(way.windows)))) for way in ways)
        assert max(out.row_nfe) <= most, f"{rule!r}: more forwards than its windows have steps"
        check_result(out.tokens, model.spec, f"{rule!r}")

    equal()


def _assume_planned(
    policy: UnmaskingPolicy, schedule: Schedule, spec: Spec, prompts: list[list[int]], num_new: int
) -> None:
    try:
        ways = [agenda(schedule, policy, spec, len(prompt), num_new) for prompt in [[], *prompts]]
    except ValueError:
        assume(False)
    # the reference asks for the logits of a causal prefix and the model's own window
    assume(spec.pattern != "causal-prefix" or {*map(len, ways[0].windows)} == {spec.block_length})


def check_result(tokens: Tensor, spec: Spec, who: str) -> None:
    """Hold what is true of every result: no mask id, no id beyond the vocabulary."""
    assert spec.mask_id is None or not bool((tokens == spec.mask_id).any()), f"{who}: a mask id is left"
    assert spec.vocab_size is None or bool((tokens < spec.vocab_size).all()), f"{who}: an id beyond the vocabulary"


def check_schedule(schedule: Schedule) -> None:
    """Hold the law of schedules, then decode with it against the reference."""

    @many
    @given(st.integers(1, 200), st.integers(0, 63))
    def law(num_new: int, offset: int) -> None:
        windows = schedule.windows(num_new, offset)
        covered = [slot for window in windows for slot in window]
        assert covered == list(range(num_new)), f"{schedule!r}: windows do not cover the response once, in order"

    law()
    check_decoding(schedule=schedule)


def check_temperature(schedule: TemperatureSchedule) -> None:
    """Hold the law of temperature schedules, then decode with it against the reference."""

    @many
    @given(st.lists(st.integers(1, 64), min_size=1, max_size=4), st.data())
    def law(lengths: list[int], data: st.DataObject) -> None:
        steps = torch.tensor(lengths)[:, None]
        step = torch.tensor([[data.draw(st.integers(0, length - 1))] for length in lengths])
        found = schedule(step, steps)
        assert found.shape == step.shape, f"{schedule!r}: shape {tuple(found.shape)}, not one number a row"
        # interpolating in float32 may end one rounding beyond
        fits = bool(((found > 0.999 * LEAST) & (found < 1.001 * MOST)).all())
        assert fits, f"{schedule!r}: not from {LEAST:g} to {MOST:g}"
        alone = torch.cat([schedule(step[i : i + 1], steps[i : i + 1]) for i in range(len(step))])
        assert torch.equal(found, alone), f"{schedule!r}: a row's temperature depends on the rows around it"

    law()
    check_decoding(temperature=schedule)


def check_pass(transform: Callable[[Graph], Graph]) -> None:
    """Decode with and without a pass: it may change the graph, never a token."""

    @few
    @given(tasks(), st.sampled_from(["threshold", "top-k", "factor"]), st.sampled_from([0.0, 1.0]))
    def same(task: tuple[Denoiser, list[list[int]], int, int], policy: str, temperature: float) -> None:
        model, prompts, num_new, block = task
        how: dict[str, Any] = {"max_new_tokens": num_new, "block_length": block, "temperature": temperature}
        decoder = compile_decoder(model, policy=policy, **how)
        expected = decoder.generate(prompts).tokens
        program = decoder.compiled.programs["full"]
        graph = transform(check(resolve(decoder.parts, ())[0]))
        object.__setattr__(program, "graph", graph)
        object.__setattr__(program, "run", emit(graph, "full_step"))
        got = decoder.generate(prompts).tokens
        assert torch.equal(got, expected), f"pass {transform.__name__}: tokens changed"

    same()
