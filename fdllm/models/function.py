"""A foreign model that is only a function: ids in, logits out. It keeps no K/V."""

import inspect
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from fdllm.attention.base import AttentionBackend
from fdllm.attention.sdpa import Sdpa
from fdllm.component import SettingError
from fdllm.models.denoiser import Denoiser, Store
from fdllm.models.feed import Feed
from fdllm.models.spec import Spec
from fdllm.types import CanvasTokens, Hidden, Logits


@final
class FunctionDenoiser(Denoiser):
    """Wrap `fn(ids) -> logits` or `fn(ids, lengths) -> logits`.

    `ids` is int64[B n]; with `lengths` (int64[B]) rows are padded on the right and the function
    must not let padding count. Without it, rows of unequal length are run apart. Logits are
    float[B n V]; at slot i they predict slot i, or slot i + 1 when `spec.shift`.
    """

    stores = False

    def __init__(self, fn: Callable[..., Any], spec: Spec) -> None:
        """Wrap; the device is that of the function's parameters where it is a module."""
        if spec.pattern == "causal-prefix":
            raise SettingError("spec.pattern: a function is not told where the window ends; give a module, or 'full'")
        self.fn = fn.eval() if isinstance(fn, torch.nn.Module) else fn
        self.spec = spec
        self.name = getattr(fn, "__name__", type(fn).__name__)
        self.tokenizer = None
        self.attention = Sdpa()
        first = next(fn.parameters(), None) if isinstance(fn, torch.nn.Module) else None
        self.device = torch.device("cpu") if first is None else first.device
        self.dtype = torch.float32 if first is None else first.dtype
        forward = fn.forward if isinstance(fn, torch.nn.Module) else fn
        self._takes_lengths = "lengths" in inspect.signature(forward).parameters

    def new_store(self, batch: int, slots: int) -> Store:
        """Refuse: a function has no K/V to keep."""
        raise TypeError(f"{self.name} is a plain function and keeps no K/V")

    def hidden(
        self,
        canvas: CanvasTokens,
        feed: Feed,
        store: Store | None,
        attention: AttentionBackend,
        previous_logits: Logits | None = None,
    ) -> Hidden:
        """Give the logits rows that predict the window: the head is inside the function."""
        del store, attention, previous_logits
        logits = self._padded(canvas, feed.lengths)
        return logits.gather(1, feed.picks.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))

    def head(self, hidden: Hidden) -> Logits:
        """Return the logits as they are."""
        return hidden

    @torch.inference_mode()
    def logits(self, ids: Tensor) -> Tensor:
        """Call the function on rows of equal length."""
        return self._padded(ids.to(self.device), (ids.shape[1],) * len(ids))

    def _padded(self, ids: Tensor, lengths: tuple[int, ...]) -> Tensor:
        if self._takes_lengths:
            return self._called(ids, torch.tensor(lengths, device=ids.device))
        if len(set(lengths)) == 1:
            return self._called(ids)
        rows = [self._called(ids[i : i + 1, :n]) for i, n in enumerate(lengths)]
        return torch.cat([torch.nn.functional.pad(row, (0, 0, 0, ids.shape[1] - row.shape[1])) for row in rows])

    def _called(self, ids: Tensor, *lengths: Tensor) -> Tensor:
        out = self.fn(ids, *lengths)
        logits = getattr(out, "logits", out)
        if not isinstance(logits, Tensor) or logits.shape[:2] != ids.shape or logits.dim() != 3:
            got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"{self.name}: wanted logits [{ids.shape[0]}, {ids.shape[1]}, V] from ids, got {got}")
        return logits
