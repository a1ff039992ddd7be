"""Rotary embedding of queries and keys, and the write of keys and values into the slot store, in one pass."""

from collections.abc import Callable

from torch import Tensor

# a form of it: q, k, v, cos, sin, slots, keys, values -> rotated queries; `reference.store_kv` says what each is
StoreKv = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
