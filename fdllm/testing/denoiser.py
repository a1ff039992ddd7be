"""The law of denoisers: a prediction does not depend on what is computed with it."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fdllm.caches.base import Rows
from fdllm.models.denoiser import Denoiser, Store
from fdllm.models.feed import feed
from fdllm.testing.strategies import VOCABULARY, few


def check_denoiser(denoiser: Denoiser, vocabulary: int = VOCABULARY) -> None:
    """Compare a whole forward of a ragged batch with each row alone, and with its window alone over a full store.

    Args:
        denoiser: the model; ids below `vocabulary` are drawn.
        vocabulary: how many ids it knows.

    """

    @few
    @given(
        st.lists(st.integers(0, 5), min_size=1, max_size=3), st.integers(1, 4), st.integers(0, 3), st.integers(0, 99)
    )
    def law(prompts: list[int], width: int, after: int, seed: int) -> None:
        lengths = [1 + prompt + width + after for prompt in prompts]
        windows = [range(1 + prompt, 1 + prompt + width) for prompt in prompts]
        noise = torch.Generator().manual_seed(seed)
        canvas = torch.randint(0, vocabulary, (len(prompts), max(lengths)), generator=noise).to(denoiser.device)
        whole = _predicted(denoiser, canvas, [Rows(range(n)) for n in lengths], windows, lengths, None)
        allowed = 64 * torch.finfo(whole.dtype).eps * whole.abs().max()
        for i, n in enumerate(lengths):
            alone = _predicted(denoiser, canvas[i : i + 1, :n], [Rows(range(n))], windows[i : i + 1], [n], None)
            assert (alone[0] - whole[i]).abs().max() <= allowed, f"{denoiser.name}: a row depends on its batch"
        if denoiser.stores:
            store = denoiser.new_store(len(prompts), max(lengths))
            kept = _predicted(denoiser, canvas, [Rows(range(n)) for n in lengths], windows, lengths, store)
            assert (kept - whole).abs().max() <= allowed, f"{denoiser.name}: keeping K/V changes what is predicted"
            reused = _predicted(denoiser, canvas, [Rows(window) for window in windows], windows, lengths, store)
            assert (reused - whole).abs().max() <= allowed, (
                f"{denoiser.name}: a window over its store predicts otherwise"
            )

    law()


@torch.inference_mode()
def _predicted(
    denoiser: Denoiser, canvas: Tensor, plans: list[Rows], windows: list[range], lengths: list[int], store: Store | None
) -> Tensor:
    made = feed(denoiser.spec, [*plans], windows, lengths).to(denoiser.device)
    return denoiser.head(denoiser.hidden(canvas, made, store, denoiser.attention))
