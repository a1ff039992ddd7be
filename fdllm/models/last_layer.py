"""The last decoder layer, computed on the rows that are read.

A layer's rows are read as K/V by every query, and as hidden states by the layer after it. Behind
the last layer only the rows that predict the window are read. So it makes K/V of all rows, and
queries, attention and MLP of those alone.
"""

import copy
from typing import Any, final

from torch import Tensor, nn

from fdllm.attention.base import AttentionBackend
from fdllm.models.feed import Feed
from fdllm.visibility import Visibility


@final
class LastLayer(nn.Module):
    """Run a decoder layer of transformers; give the rows that predict the window, float[B W D]."""

    def __init__(self, layer: Any) -> None:
        """Wrap a layer that `fits`."""
        super().__init__()
        self.layer = layer
        self.keys_alone = _keys_alone(layer.self_attn)

    def forward(
        self,
        hidden_states: Tensor,
        *,
        position_embeddings: tuple[Tensor, Tensor],
        position_ids: Tensor,
        past_key_values: Any,
        feed: Feed,
        backend: AttentionBackend,
        visible: Visibility | None,
        **kwargs: Any,
    ) -> Tensor:
        """Compute; the arguments are those the decoder stack gives its layers."""
        picks = feed.picks
        if hidden_states.shape[1] < 2 * picks.shape[1]:
            where = {"position_embeddings": position_embeddings, "position_ids": position_ids, "visible": visible}
            rows = self.layer(hidden_states, past_key_values=past_key_values, backend=backend, **where, **kwargs)
            return picked(rows, picks)
        kept = _Kept(past_key_values)
        self.keys_alone(
            hidden_states=self.layer.input_layernorm(hidden_states),
            position_embeddings=position_embeddings,
            past_key_values=kept,
            backend=_nobody_asks,
            visible=None,
            **kwargs,
        )
        return self.layer(  # type: ignore[no-any-return]
            picked(hidden_states, picks),
            position_embeddings=tuple(picked(each, picks) for each in position_embeddings),
            position_ids=position_ids.gather(1, picks),
            past_key_values=kept,
            backend=backend,
            visible=None if visible is None else visible.picked(picks),
            **kwargs,
        )


def fits(layer: nn.Module) -> bool:
    """Say whether a layer norms its input, then attends, by the names transformers uses."""
    parts = {name for name, _ in layer.named_modules()}
    return parts >= {"input_layernorm", *(f"self_attn.{name}_proj" for name in "qkvo")}


def picked(rows: Tensor, picks: Tensor) -> Tensor:
    """Take the picked rows, [B R D] and int64[B W] -> [B W D]."""
    return rows.gather(1, picks.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))


class _Kept:
    """The layer's K/V as its first call wrote them: the second call's are among them."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.found: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if self.found is None:
            self.found = (keys, values) if self.cache is None else self.cache.update(keys, values, layer)
        return self.found


class _NoQueries(nn.Module):
    """Stand in for the query projection where nothing is asked."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(1).expand(*x.shape[:-1], self.width)


def _keys_alone(attention: Any) -> Any:
    """Copy an attention module, without what its queries and their results cost."""
    alone = copy.copy(attention)
    given = {"q_proj": _NoQueries(len(attention.q_proj.weight)), "o_proj": nn.Identity()}
    alone._modules = {**attention._modules, **given}
    return alone


def _nobody_asks(q: Tensor, *args: Any) -> Tensor:
    """Attend to nothing."""
    return q
