"""DiffusionGemma: a causal encoder of what is decided, a bidirectional decoder of the window, uniform noise.

Source: transformers 5.23, models/diffusion_gemma; checkpoint google/diffusiongemma-26B-A4B-it. Both
halves share their weights; the decoder reads the encoder's K/V, keeps none of its own, and is told the
logits it gave one step earlier. Text only. Tokens equal transformers' `generate` under shared noise
(tests/test_diffusion_gemma.py).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from fdllm.attention.base import AttentionBackend
from fdllm.attention.sdpa import Sdpa
from fdllm.component import SettingError
from fdllm.models.backbone import attention_by
from fdllm.models.denoiser import Denoiser, Store
from fdllm.models.family import Config, Family, count, given, required, table
from fdllm.models.feed import Feed, feed
from fdllm.models.spec import Spec
from fdllm.models.store import SlotLayer, SlotStore
from fdllm.types import CanvasTokens, Hidden, Logits
from fdllm.visibility import Visibility


@final
class DiffusionGemmaDenoiser(Denoiser):
    """`DiffusionGemmaForBlockDiffusion` of transformers: slots before the window are encoded, the window decoded."""

    stores = True
    conditioned = True

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
        """Wrap the module."""
        if spec.shift or spec.pattern != "causal-prefix":
            raise SettingError(
                "model.pattern, model.shift: DiffusionGemma decodes a causal-prefix without shift; drop these overrides"
            )
        self.module = module.eval()
        self.spec = spec
        self.name = name or type(module).__name__
        self.tokenizer = tokenizer
        self.attention = attention or Sdpa()
        self.defaults = defaults or {}
        self.device, self.dtype = module.device, module.dtype
        self._text = module.config.get_text_config()

    def new_store(self, batch: int, slots: int) -> Store:
        """Make an empty store of the encoder's K/V; its buffers appear with the first forward."""
        del batch
        return SlotStore([SlotLayer(slots) for _ in range(self._text.num_hidden_layers)])

    def hidden(
        self,
        canvas: CanvasTokens,
        feed: Feed,
        store: Store | None,
        attention: AttentionBackend,
        previous_logits: Logits | None = None,
    ) -> Hidden:
        """Encode the slots of the feed that come before the window, then decode the window; see the base class."""
        kept = store if isinstance(store, SlotStore) else self._fresh(canvas)
        width = feed.slots.shape[1] - feed.window.shape[1]
        if width > 0:
            self._encoded(canvas, _before(feed, width, canvas.shape[1]), kept, attention)
        return self._decoded(canvas, feed.window, kept, attention, previous_logits)

    def head(self, hidden: Hidden) -> Logits:
        """Apply the LM head and its soft cap, float32[B W V]."""
        cap: float = self.module.final_logit_softcapping
        logits: Tensor = self.module.lm_head(hidden).float() / cap
        return logits.tanh() * cap

    @torch.inference_mode()
    def logits(self, ids: Tensor) -> Tensor:
        """Logits of the encoder before the last `block_length` slots, of the decoder there; float32[B n V]."""
        ids = ids.to(self.device)
        batch, length = ids.shape
        window = range(max(1, length - self.spec.block_length), length)
        made = feed(self.spec, [None] * batch, [window] * batch, [length] * batch).to(self.device)
        kept = self._fresh(ids)
        prefix = torch.arange(window.start, device=self.device).expand(batch, -1)
        states = self._encoded(ids, replace(made, slots=prefix), kept, self.attention)
        decoded = self._decoded(ids, made.window, kept, self.attention, None)
        return self.head(torch.cat([states, decoded], 1))

    def _fresh(self, canvas: Tensor) -> SlotStore:
        store = self.new_store(*canvas.shape)
        assert isinstance(store, SlotStore)
        return store

    def _encoded(self, canvas: Tensor, feed: Feed, store: SlotStore, attention: AttentionBackend) -> Tensor:
        """Run the encoder over the slots of a feed, causally; their K/V overwrite their own in the store."""
        slots, num_slots = feed.slots, canvas.shape[1]
        ends = (slots + 1).clamp(max=num_slots).int()
        near = (slots + 1 - self._text.sliding_window).clamp(min=0).int()
        full, sliding = (Visibility(starts, ends, num_slots) for starts in (torch.zeros_like(ends), near))
        with attention_by(self._text):
            out = self.module.model.encoder.language_model(
                input_ids=canvas.gather(1, slots.clamp(max=canvas.shape[1] - 1)),
                position_ids=slots,
                attention_mask={"full_attention": full, "sliding_attention": sliding},
                past_key_values=store.at(feed),
                backend=attention,
            )
        return out.last_hidden_state  # type: ignore[no-any-return]

    def _decoded(
        self, canvas: Tensor, window: Tensor, store: SlotStore, attention: AttentionBackend, previous: Tensor | None
    ) -> Tensor:
        """Run the decoder over the window; its keys are the store's, scratch slot included, then its own."""
        start, stored = window[:, :1], canvas.shape[1] + 1
        keys = torch.arange(stored + window.shape[1], device=window.device)
        own, seen = keys >= stored, keys < start
        # a sliding cache holds one slot less than the width of its window
        near = seen & (keys > start - self._text.sliding_window)
        told = previous if previous is not None and previous.numel() else None
        with attention_by(self._text):
            out = self.module.model.decoder(
                decoder_input_ids=canvas.gather(1, window),
                decoder_position_ids=window,
                decoder_attention_mask={"full_attention": _among(seen | own), "sliding_attention": _among(near | own)},
                past_key_values=store,
                self_conditioning_logits=None if told is None else told.to(self.dtype),
                backend=attention,
            )
        return out.last_hidden_state  # type: ignore[no-any-return]


def _among(chosen: Tensor) -> Visibility:
    """Show every query of a row the same keys, bool[B N]."""
    starts = torch.zeros(len(chosen), 1, dtype=torch.int32, device=chosen.device)
    return Visibility(starts, torch.full_like(starts, chosen.shape[1]), chosen.shape[1], chosen)


def _before(feed: Feed, width: int, num_slots: int) -> Feed:
    """Keep the slots left of each row's window, the first `width` columns at most; others go to the scratch slot."""
    slots = feed.slots[:, :width]
    return replace(feed, slots=slots.where(slots < feed.window[:, :1], num_slots), span=None)


def settings(config: Config) -> dict[str, Any]:
    """Keep the native config: this family is transformers' own."""
    kept = ("text_config", "vision_config", "canvas_length", "tie_word_embeddings")
    return {key: required(config, key) for key in kept if key in config}


def spec(config: Config) -> dict[str, Any]:
    """Predict each slot of the canvas at its own row, from random ids."""
    text = table(config, "text_config")
    return {
        "mask_id": None,
        "noise": "uniform",
        "vocab_size": count(text, "vocab_size"),
        "context": count(text, "max_position_embeddings"),
        "pattern": "causal-prefix",
        "block_length": count(config, "canvas_length"),
    }


def defaults(generation: Config) -> dict[str, Any]:
    """Take steps, entropy bound, temperatures and stop from generation_config.json, else as transformers does."""
    bound = table(generation, "sampler_config", "generation_config.json").get("entropy_bound", 0.1)
    return {
        "policy": {
            "name": "renoise",
            "steps": given(generation, "max_denoising_steps", 48),
            "entropy_bound": bound,
            "stable_steps": given(generation, "stability_threshold", 1),
            "mean_entropy": given(generation, "confidence_threshold", 0.005),
        },
        "temperature": {
            "name": "linear",
            "start": given(generation, "t_max", 0.8),
            "end": given(generation, "t_min", 0.4),
        },
    }


DIFFUSION_GEMMA = Family(
    about="DiffusionGemma",
    backbone="DiffusionGemmaForBlockDiffusion",
    settings=settings,
    spec=spec,
    denoiser=DiffusionGemmaDenoiser,
    is_causal=None,
    defaults=defaults,
)
