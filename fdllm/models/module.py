"""A foreign module that keeps K/V itself: called with ids, positions, the slot store and a mask."""

from typing import Any, final

import torch
from torch import Tensor, nn

from fdllm.attention.base import AttentionBackend
from fdllm.attention.sdpa import Sdpa
from fdllm.models.denoiser import Denoiser, Store
from fdllm.models.feed import Feed, whole
from fdllm.models.last_layer import picked
from fdllm.models.spec import Spec
from fdllm.models.store import SlotStore
from fdllm.types import CanvasTokens, Hidden, Logits


@final
class ModuleDenoiser(Denoiser):
    """Wrap `forward(input_ids, position_ids=, past_key_values=, attention_mask=)`, of any library.

    Input ids and positions are int64[B R]; the last position is that of padding. Each layer calls
    `past_key_values.update(keys, values, layer)` with float[B G R D], keys after any rotary embedding,
    and attends to the float[B G N D] it is given, `N` slots, under the mask bool[B 1 R N] (True may be
    attended to; None: all of them). Without a store, `past_key_values` is None and the keys are the
    rows themselves. It returns logits float[B R V], or an object that has them as `.logits`.
    """

    stores = True

    def __init__(self, module: nn.Module, spec: Spec) -> None:
        """Wrap."""
        self.module = module.eval()
        self.spec = spec
        self.name = type(module).__name__
        self.tokenizer = None
        self.attention: AttentionBackend = Sdpa()
        first = next(module.parameters(), torch.zeros(0))
        self.device, self.dtype = first.device, first.dtype

    def new_store(self, batch: int, slots: int) -> Store:
        """Make an empty store; its layers and their buffers appear with the first forward."""
        del batch
        return SlotStore([], slots)

    def hidden(
        self,
        canvas: CanvasTokens,
        feed: Feed,
        store: Store | None,
        attention: AttentionBackend,
        previous_logits: Logits | None = None,
    ) -> Hidden:
        """Give the logits rows that predict the window: the head is inside the module, and so is attention."""
        del attention, previous_logits
        return picked(self._rows(canvas, feed, store), feed.picks)

    def head(self, hidden: Hidden) -> Logits:
        """Return the logits as they are."""
        return hidden

    @torch.inference_mode()
    def logits(self, ids: Tensor) -> Tensor:
        """Run one whole forward. Over a causal prefix the window comes last."""
        return self._rows(ids.to(self.device), whole(self.spec, *ids.shape).to(self.device), None)

    def _rows(self, canvas: Tensor, feed: Feed, store: Store | None) -> Tensor:
        out: Any = self.module(
            canvas.gather(1, feed.slots.clamp(max=canvas.shape[1] - 1)),
            position_ids=feed.slots,
            past_key_values=store.at(feed) if isinstance(store, SlotStore) else None,
            attention_mask=None if feed.visible is None else feed.visible.mask,
        )
        rows = out if isinstance(out, Tensor) else getattr(out, "logits", None)
        if not isinstance(rows, Tensor) or rows.shape[:2] != feed.slots.shape or rows.dim() != 3:
            got = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(out).__name__
            raise ValueError(f"{self.name}: wanted logits [{feed.slots.shape[0]}, {feed.slots.shape[1]}, V], got {got}")
        return rows
