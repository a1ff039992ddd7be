"""Self-attention that rotates and stores in one pass.

transformers' attention modules rotate by a plain function of their file, then hand the slot store what it
returned, so no one place sees both. Modules of some classes do nothing else of their own between
projections and attention; they are put together here from their parts, over the same parameters.
"""

from typing import Any, final

from torch import Tensor, nn

from fdllm.attention.base import AttentionBackend
from fdllm.kernels.store_kv import StoreKv
from fdllm.models.store import SlotStore
from fdllm.visibility import Visibility

# classes whose forward is that of `StoringAttention`, by where they are; a subclass may do more
_KNOWN = {
    f"transformers.models.{file}.modeling_{file}.{name}Attention"
    for file, name in [
        ("llama", "Llama"),
        ("qwen2", "Qwen2"),
        ("qwen3", "Qwen3"),
        ("qwen3_moe", "Qwen3Moe"),
        ("glm4_moe", "Glm4Moe"),
    ]
}
_PROJECTIONS = {f"{part}_proj" for part in "qkvo"}
_NORMS = {"q_norm", "k_norm"}


@final
class StoringAttention(nn.Module):
    """Run an attention module of transformers, its rotation and its write into the store by one kernel."""

    def __init__(self, attention: Any, store_kv: StoreKv) -> None:
        """Wrap a module that `fits`."""
        super().__init__()
        self.attention = attention
        self.store_kv = store_kv

    def forward(
        self,
        hidden_states: Tensor,
        *,
        position_embeddings: tuple[Tensor, Tensor],
        past_key_values: Any,
        backend: AttentionBackend,
        visible: Visibility | None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Compute; the arguments are those a decoder layer gives its attention."""
        stock = self.attention
        # a last layer that runs twice keeps its K/V between the calls: it rotates and stores by itself
        if not isinstance(past_key_values, SlotStore):
            given = {"position_embeddings": position_embeddings, "past_key_values": past_key_values}
            return stock(hidden_states, backend=backend, visible=visible, **given, **kwargs)  # type: ignore[no-any-return]
        q, k, v = self._projected(hidden_states)
        q, keys, values = past_key_values.rotate_and_update(
            self.store_kv, q, k, v, *position_embeddings, stock.layer_idx
        )
        out = backend(q, keys, values, visible, stock.scaling)
        return stock.o_proj(out.transpose(1, 2).flatten(2)), None

    def _projected(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give queries, keys and values before rotation, float[B H R D] and two of float[B G R D]."""
        stock = self.attention
        shape = (*hidden.shape[:-1], -1, stock.head_dim)
        q, k, v = (project(hidden).view(shape) for project in (stock.q_proj, stock.k_proj, stock.v_proj))
        if "q_norm" in stock._modules:
            q, k = stock.q_norm(q), stock.k_norm(k)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def fits(attention: nn.Module) -> bool:
    """Say whether a module is of a known class, has its parts alone, sees all keys, and nobody hooked into it."""
    kind, parts = type(attention), {name for name, _ in attention.named_children()}
    hooked = attention._forward_hooks or attention._forward_pre_hooks or "forward" in vars(attention)
    return (
        f"{kind.__module__}.{kind.__qualname__}" in _KNOWN
        and parts in (_PROJECTIONS, _PROJECTIONS | _NORMS)
        and not (attention._parameters or attention._buffers or hooked)
        and getattr(attention, "sliding_window", None) is None
    )
