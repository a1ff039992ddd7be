"""What the decoder sees of a model: hidden states that predict given slots, a head, and a store for K/V.

The decoder never sees shift, attention masks, padding or the head's layout.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from fdllm.attention.base import AttentionBackend
from fdllm.kernels.head_statistics import HeadWeight
from fdllm.kernels.store_kv import StoreKv
from fdllm.models.feed import Feed
from fdllm.models.spec import Spec
from fdllm.types import CanvasTokens, Hidden, Logits


class Store(ABC):
    """K/V of every slot of every row of a batch."""

    @abstractmethod
    def take(self, rows: Tensor, slots: int) -> "Store":
        """Copy the first `slots` slots of some rows of the batch, int64[B']."""

    def emptied(self) -> bool:
        """Forget everything, buffers staying where they are; False where it cannot, then a new store is made."""
        return False


class Denoiser(ABC):
    """A model as the step graph uses it. Implement this to decode a model of any kind.

    Attributes:
        spec: its conventions.
        name: what a record calls it; what was given to `fdllm.load`, or the name of the class or function.
        tokenizer: reads and writes text, as those of transformers do; None for ids alone.
        attention: the backend a decoder uses unless told otherwise.
        device: where the canvas and every index tensor must be.
        dtype: of weights, activations and K/V.
        stores: it keeps K/V between forwards, in what `new_store` gives.
        conditioned: its forward also reads the logits it gave one step earlier, as the step graph passes them on.
        defaults: settings of `fdllm.compile` that its authors recommend: cache, policy, temperature, block_length.
        tp: processes that share it; all of them must ask it the same.
        module: what computes it, where that is a module of transformers.

    Law, checked by `fdllm.testing.check_denoiser`: what it predicts for a slot does not depend
    on the other rows, on padding, or on which further slots are computed with it in one forward.
    """

    spec: Spec
    name: str
    tokenizer: Any
    attention: AttentionBackend
    device: torch.device
    dtype: torch.dtype
    stores: bool
    conditioned: bool = False
    defaults: Mapping[str, Any] = MappingProxyType({})
    tp: int = 1
    module: Any = None

    @abstractmethod
    def new_store(self, batch: int, slots: int) -> Store:
        """Make an empty store for `batch` rows of `slots` slots."""

    @abstractmethod
    def hidden(
        self,
        canvas: CanvasTokens,
        feed: Feed,
        store: Store | None,
        attention: AttentionBackend,
        previous_logits: Logits | None = None,
    ) -> Hidden:
        """Run the slots of `feed` through the model; return what predicts the window, before the head.

        Args:
            canvas: every token of every row, int64[B N].
            feed: which slots to compute, which rows of them to return, who sees whom.
            store: what `new_store` gave, overwritten at the computed slots; None to compute without.
            attention: the backend.
            previous_logits: with `conditioned`, the logits of the window one step earlier, float[B W V],
                and [B, 0, 0] at its first step; else None.

        Returns:
            float[B W D].

        """

    @abstractmethod
    def head(self, hidden: Hidden) -> Logits:
        """Give the logits of hidden states, float[B W V]."""

    def head_weight(self) -> HeadWeight | None:
        """Give the head as numbers, where `head` is nothing but their product with the hidden states; else None.

        The compiler then takes statistics straight from hidden states and never calls `head`.
        """
        return None

    def with_store_kv(self, store_kv: StoreKv) -> "Denoiser | None":
        """Give the same model with its keys rotated and stored by one kernel; None where it cannot.

        The compiler then runs that one in phases that keep K/V.
        """
        del store_kv
        return None

    @abstractmethod
    def logits(self, ids: Tensor) -> Tensor:
        """Logits of every slot as the published forward returns them, int64[B n] -> float[B n V]; no shift."""
