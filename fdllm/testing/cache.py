"""The laws of cache policies."""

from typing import Any, ClassVar, final

import torch
from hypothesis import given
from hypothesis import strategies as st

from fdllm.caches.base import CachePolicy, Rows, Step
from fdllm.compiling import compile as compile_decoder
from fdllm.models.denoiser import Denoiser
from fdllm.policies.threshold import Threshold
from fdllm.schedules.blocks import Blocks
from fdllm.testing.decoding import check_result
from fdllm.testing.strategies import few, many, tasks


@final
class Everything(CachePolicy):
    """Ask another cache, then recompute every slot anyway: decoding must equal the reference."""

    patterns: ClassVar[tuple[str, ...]] = ("full", "block-causal", "causal-prefix")

    inner: CachePolicy

    def rows(self, step: Step) -> Rows:
        """Answer every slot."""
        self.inner.rows(step)
        return Rows(range(step.length))


def check_cache(cache: CachePolicy) -> None:
    """Hold the laws stated in `CachePolicy`."""

    @few
    @given(tasks(cache.patterns), st.floats(0, 1))
    def laws(task: tuple[Denoiser, list[list[int]], int, int], threshold: float) -> None:
        model, prompts, num_new, block = task
        how: dict[str, Any] = {
            "policy": Threshold(threshold=threshold),
            "max_new_tokens": num_new,
            "block_length": block,
        }
        decoder = compile_decoder(model, cache=cache, **how)
        out = decoder.generate(prompts)
        check_result(out.tokens, model.spec, f"{cache!r}")
        for i, prompt in enumerate(prompts):
            alone = decoder.generate([prompt], row_ids=[i]).tokens[0]
            assert torch.equal(out.tokens[i], alone), f"{cache!r}: a row's tokens depend on its batch"
        plain = compile_decoder(model, cache="none", **how).generate(prompts).tokens
        if cache.stores:
            whole = compile_decoder(model, cache=Everything(inner=cache), **how).generate(prompts).tokens
            assert torch.equal(whole, plain), f"{cache!r}: recomputing every slot is not the uncached result"
        if cache.exact:
            assert torch.equal(out.tokens, plain), f"{cache!r}: calls itself exact, but tokens differ from the uncached"

    @many
    @given(st.integers(1, 40), st.integers(1, 60), st.sampled_from([1, 2, 4, 8, 32]), st.integers(0, 9), st.data())
    def answer(prompt: int, num_new: int, block: int, index: int, data: st.DataObject) -> None:
        number, window = data.draw(st.sampled_from([*enumerate(Blocks(block_length=block).windows(num_new, prompt))]))
        start, end, length = window.start, window.stop, prompt + num_new
        stale = data.draw(st.lists(st.integers(0, length - 1), unique=True).map(sorted))
        still_open = list(range(prompt + data.draw(st.integers(start, end)), length))
        look = {"stale": stale, "open_slots": still_open}.__getitem__
        for pattern in cache.patterns:
            told = Step(prompt + start, prompt + end, length, prompt, number, index, pattern, 32, look)
            once, again = cache.rows(told).compute, cache.rows(told).compute
            assert once == again, f"{cache!r}: the same step gave another answer"
            missing = {slot for slot in still_open if slot < told.end} - {*once}
            assert not missing, f"{cache!r}: leaves out open slots of the window"

    answer()
    laws()
