"""The law of executions: they give what `eager` gives."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from fdllm.compiling import compile as compile_decoder
from fdllm.models.denoiser import Denoiser
from fdllm.testing.strategies import few, tasks
from fdllm.trace import Move


def check_execution(name: str, patterns: tuple[str, ...] = ("full",), **how: Any) -> None:
    """Decode with an execution and call by call, twice each with one decoder, and compare everything but times.

    Args:
        name: of the execution.
        patterns: of the models drawn.
        how: further arguments of `fdllm.compile`, such as cache and policy.

    """

    @few
    @given(tasks(patterns), st.sampled_from([0.0, 1.0]), st.booleans(), st.integers(0, 99))
    def same(
        task: tuple[Denoiser, list[list[int]], int, int], temperature: float, stop_at_eos: bool, seed: int
    ) -> None:
        model, prompts, num_new, block = task
        drawn: dict[str, Any] = {"temperature": temperature, "stop_at_eos": stop_at_eos, **how}
        plain, other = (
            compile_decoder(model, max_new_tokens=num_new, block_length=block, execution=each, **drawn)
            for each in ("eager", name)
        )
        # a record of one run serves the next, of other prompts or of one row fewer
        for batch in (prompts, [prompt[::-1] for prompt in prompts], prompts[:1]):
            expected, got = plain.generate(batch, seed, trace=True), other.generate(batch, seed, trace=True)
            assert torch.equal(got.tokens, expected.tokens), f"{name}: tokens differ from eager"
            assert got.row_nfe == expected.row_nfe and got.nfe == expected.nfe, f"{name}: forwards differ from eager"
            assert expected.trace is not None and got.trace is not None
            assert _steps(got.trace) == _steps(expected.trace), f"{name}: a step differs from eager"
            assert not expected.stats.replays, "eager replays nothing"

    same()


def _steps(trace: list[Move]) -> list[tuple[Any, ...]]:
    """Give what a step decides, without the probabilities, whose last bits a compiler may change."""
    return [(move.computed, move.candidates, move.committed, move.reopened) for move in trace]
