"""The slot-addressed K/V store as a transformers cache: slot = absolute position in the canvas.

An update overwrites the entries of the slots computed and returns every slot as stored. One
further slot takes what is to be dropped (padding, rows that wait).
"""

from typing import Any, final

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from fdllm.kernels.store_kv import StoreKv
from fdllm.models.denoiser import Store
from fdllm.models.feed import Feed


@final
class SlotLayer(CacheLayerMixin):
    """K and V of one layer, float[B G N+1 D], allocated at the first update."""

    is_compileable = False

    def __init__(self, num_slots: int) -> None:
        """Hold `num_slots` slots and the scratch slot behind them."""
        super().__init__()
        self.num_slots = num_slots
        self.feed: Feed | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate buffers like the states given."""
        for name, states in (("keys", key_states), ("values", value_states)):
            batch, heads, _, width = states.shape
            setattr(self, name, states.new_zeros(batch, heads, self.num_slots + 1, width))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the computed slots; return all slots, float[B G N D]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.feed is not None and self.keys is not None and self.values is not None
        for buffer, states in ((self.keys, key_states), (self.values, value_states)):
            if self.feed.span is not None:
                buffer[:, :, self.feed.span.start : self.feed.span.stop] = states
            else:
                buffer.scatter_(2, self.feed.slots[:, None, :, None].expand_as(states), states)
        return self.keys[:, :, : self.num_slots], self.values[:, :, : self.num_slots]

    def rotate_and_update(
        self, store_kv: StoreKv, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotate queries and keys, and write the computed slots; return queries and all slots."""
        if not self.is_initialized:
            self.lazy_initialization(k, v)
        assert self.feed is not None and self.keys is not None and self.values is not None
        rotated = store_kv(q, k, v, cos, sin, self.feed.slots, self.keys, self.values)
        return rotated, self.keys[:, :, : self.num_slots], self.values[:, :, : self.num_slots]

    def taken(self, rows: Tensor, slots: int) -> "SlotLayer":
        """Copy the first `slots` slots of some rows of the batch; what the scratch slot holds does not matter."""
        other = SlotLayer(slots)
        if self.keys is not None and self.values is not None:
            other.keys, other.values = self.keys[rows, :, : slots + 1], self.values[rows, :, : slots + 1]
            other.is_initialized = True
        return other

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Every slot is a key, from slot 0 on."""
        return self.num_slots, 0

    def get_seq_length(self) -> int:
        """Positions are given with every call, so none are implied."""
        return 0

    def get_max_length(self) -> int:
        """Return the number of slots."""
        return self.num_slots

    # the name before transformers 5.11
    get_max_cache_shape = get_max_length


@final
class SlotStore(Cache, Store):
    """One `SlotLayer` per layer of the model; with `num_slots`, layers are added as they come."""

    def __init__(self, layers: list[SlotLayer], num_slots: int = 0) -> None:
        """Hold the layers."""
        super().__init__(layers=list(layers))
        self.slot_layers = layers
        self.num_slots = num_slots
        self.feed: Feed | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the computed slots of a layer; return all slots, float[B G N D]."""
        while self.num_slots and layer_idx >= len(self.slot_layers):
            self.slot_layers.append(SlotLayer(self.num_slots))
            self.slot_layers[-1].feed = self.feed
        return self.slot_layers[layer_idx].update(key_states, value_states, *args, **kwargs)

    def rotate_and_update(
        self, store_kv: StoreKv, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, layer_idx: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotate, and write the computed slots of a layer, by one kernel.

        Args:
            store_kv: the kernel, in any of its forms.
            q: queries before rotation, float[B H R D].
            k: keys before rotation, float[B G R D].
            v: values, float[B G R D].
            cos: cosines of the positions, float[B R E].
            sin: sines, float[B R E].
            layer_idx: the layer.

        Returns:
            Rotated queries, float[B H R D], and every slot as stored, twice float[B G N D].

        """
        return self.slot_layers[layer_idx].rotate_and_update(store_kv, q, k, v, cos, sin)

    def at(self, feed: Feed) -> "SlotStore":
        """Say which slots the next forward computes."""
        self.feed = feed
        for layer in self.slot_layers:
            layer.feed = feed
        return self

    @torch.inference_mode()
    def emptied(self) -> bool:
        """Set every buffer to zero, as a new store has it."""
        for layer in self.slot_layers:
            for buffer in (layer.keys, layer.values):
                if buffer is not None:
                    buffer.zero_()
        return True

    def take(self, rows: Tensor, slots: int) -> "SlotStore":
        """Copy the first `slots` slots of some rows of the batch."""
        return SlotStore([layer.taken(rows, slots) for layer in self.slot_layers], slots if self.num_slots else 0)
