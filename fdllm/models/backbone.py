"""A transformers decoder backbone as a denoiser: no modelling code of ours, only how it is called.

The backbone runs with the attention function `fdllm`, which sends every layer to the decoder's
attention backend and builds no causal mask, so it is bidirectional whatever its config says.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from fdllm.attention.base import AttentionBackend
from fdllm.attention.sdpa import Sdpa
from fdllm.component import SettingError
from fdllm.kernels.head_statistics import HeadWeight
from fdllm.kernels.linear import plain
from fdllm.kernels.store_kv import StoreKv
from fdllm.models.denoiser import Denoiser, Store
from fdllm.models.feed import Feed, whole
from fdllm.models.last_layer import picked
from fdllm.models.rebuilt import rebuilt, storing
from fdllm.models.spec import Spec
from fdllm.models.store import SlotLayer, SlotStore
from fdllm.types import CanvasTokens, Hidden, Logits


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    """Follow the convention of transformers' attention functions: heads last but one in the result."""
    # whoever gives a mask has its sliding window in it
    more = [key for key in ("softcap", "s_aux", "sliding_window") if kwargs.get(key) is not None]
    if more and attention_mask is None:
        raise SettingError(
            f"model: {type(module).__name__} attends with {' and '.join(more)}, which no attention backend here "
            "computes; give a function from ids to logits"
        )
    out = kwargs["backend"](query, key, value, kwargs.get("visible", attention_mask), scaling)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register("fdllm", _attend)


@final
class BackboneDenoiser(Denoiser):
    """A causal LM class of transformers, called with positions, a slot store and no mask."""

    stores = True

    def __init__(
        self,
        module: Any,
        spec: Spec,
        *,
        name: str = "",
        tokenizer: Any = None,
        attention: AttentionBackend | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """Wrap a module that has `get_decoder()` and `get_output_embeddings()`."""
        if not isinstance(module, PreTrainedModel) or module.get_output_embeddings() is None:
            raise SettingError(
                f"model: {type(module).__name__} has no head that gives logits; give the transformers class that has "
                "one, such as Qwen2ForCausalLM, or a function from ids to logits"
            )
        self.module = module.eval()
        self._rebuilt = rebuilt(module)
        self.spec = _bounded(spec, module)
        self.name = name or type(module).__name__
        self.tokenizer = tokenizer
        self.attention = attention or Sdpa()
        self.defaults = defaults or {}
        self.device = next(module.parameters()).device
        self.dtype = next(module.parameters()).dtype
        self.tp = getattr(module, "tp_size", None) or 1

    def new_store(self, batch: int, slots: int) -> Store:
        """Make an empty store; its buffers appear with the first forward."""
        del batch
        return SlotStore([SlotLayer(slots) for _ in range(self.module.config.num_hidden_layers)])

    def hidden(
        self,
        canvas: CanvasTokens,
        feed: Feed,
        store: Store | None,
        attention: AttentionBackend,
        previous_logits: Logits | None = None,
    ) -> Hidden:
        """Run the decoder stack; see the base class."""
        del previous_logits
        states = self._states(self._rebuilt.module, canvas, feed, store, attention)
        return states if self._rebuilt.picks else picked(states, feed.picks)

    def head(self, hidden: Hidden) -> Logits:
        """Apply the LM head."""
        return self._rebuilt.module.get_output_embeddings()(hidden)  # type: ignore[no-any-return]

    def head_weight(self) -> HeadWeight | None:
        """Give weight and bias of a plain linear head that nobody hooked into."""
        head = self.module.get_output_embeddings()
        return HeadWeight(head.weight, head.bias) if plain(head) else None

    def with_store_kv(self, store_kv: StoreKv) -> "BackboneDenoiser | None":
        """Let every layer rotate and store by the kernel, where all of them are of a known form."""
        made = storing(self._rebuilt, store_kv)
        if made is None:
            return None
        other = copy.copy(self)
        other._rebuilt = made
        return other

    @torch.inference_mode()
    def logits(self, ids: Tensor) -> Tensor:
        """Run one whole forward of the module as it was given. Over a causal prefix the window comes last."""
        return self.logits_under(self.spec, ids)

    def logits_under(self, spec: Spec, ids: Tensor) -> Tensor:
        """Run it under the pattern of another spec, int64[B n] -> float[B n V]."""
        every = whole(spec, *ids.shape).to(self.device)
        states = self._states(self.module, ids.to(self.device), every, None, self.attention)
        return self.module.get_output_embeddings()(states)  # type: ignore[no-any-return]

    def _states(
        self, module: Any, canvas: Tensor, feed: Feed, store: Store | None, attention: AttentionBackend
    ) -> Tensor:
        slots = feed.slots
        ids = canvas.gather(1, slots.clamp(max=canvas.shape[1] - 1))
        with attention_by(self.module.config):
            out = module.get_decoder()(
                input_ids=ids,
                position_ids=slots,
                past_key_values=store.at(feed) if isinstance(store, SlotStore) else None,
                use_cache=False,
                backend=attention,
                visible=feed.visible,
                feed=feed,
            )
        return out.last_hidden_state  # type: ignore[no-any-return]


def _bounded(spec: Spec, module: Any) -> Spec:
    """Hold a spec to the rows of the embedding, and take them as the vocabulary where it names none."""
    rows = module.get_input_embeddings().num_embeddings
    if (spec.mask_id or 0) >= rows or (spec.vocab_size or 0) > rows:
        raise SettingError(
            f"spec: mask_id = {spec.mask_id} and vocab_size = {spec.vocab_size} must fit the embedding's {rows} rows"
        )
    return spec if spec.vocab_size is not None else spec.model_copy(update={"vocab_size": rows})


@contextmanager
def attention_by(config: Any) -> Iterator[None]:
    """Route attention of modules with this config to `fdllm` for one call, and leave the module as it was found."""
    before = config._attn_implementation
    config._attn_implementation = "fdllm"
    try:
        yield
    finally:
        config._attn_implementation = before
