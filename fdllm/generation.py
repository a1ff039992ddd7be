"""What a run gives back: tokens, text, counts and times."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fdllm.trace import Move


@dataclass(frozen=True)
class Stats:
    """Counts and times of a run; one definition of every metric.

    Attributes:
        forwards: forwards of the model by phase: `full`, `refresh`, `reuse`.
        seconds: time in the steps of each phase.
        decode_seconds: synchronized time of the whole decode, in seconds.
        rows: slots computed by all forwards.
        head_rows: rows the LM head ran on.
        reads: times the host waited to learn which rows were full or done; 0 where it can count.
        replays: forwards that were replayed from a record (`execution`).
        visible_tokens: tokens up to, not including, the first eos of each row.

    """

    forwards: Mapping[str, int]
    seconds: Mapping[str, float]
    decode_seconds: float
    rows: int
    head_rows: int
    visible_tokens: int
    reads: int = 0
    replays: int = 0

    @property
    def nfe(self) -> int:
        """Forward passes of the model."""
        return sum(self.forwards.values())

    @property
    def tokens_per_second(self) -> float:
        """Visible tokens / decode time."""
        return self.visible_tokens / self.decode_seconds if self.decode_seconds else 0.0

    @property
    def tokens_per_forward(self) -> float:
        """Visible tokens / forward passes."""
        return self.visible_tokens / self.nfe if self.nfe else 0.0

    @property
    def refresh_share(self) -> float:
        """Share of the decode time spent in steps that recompute every slot and keep K/V."""
        return self.seconds.get("refresh", 0.0) / self.decode_seconds if self.decode_seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for a report."""
        return {
            "nfe": self.nfe,
            "forwards": dict(self.forwards),
            "seconds": dict(self.seconds),
            "decode_seconds": self.decode_seconds,
            "rows": self.rows,
            "head_rows": self.head_rows,
            "visible_tokens": self.visible_tokens,
            "reads": self.reads,
            "replays": self.replays,
            "tokens_per_second": self.tokens_per_second,
            "tokens_per_forward": self.tokens_per_forward,
            "refresh_share": self.refresh_share,
        }


@dataclass(frozen=True)
class Generation:
    """The result of `Decoder.generate`.

    Attributes:
        tokens: the response canvas, int64[B max_new_tokens]; after the first eos only eos where
            the decoder stops there.
        completions: response ids of each row up to, not including, the first eos.
        text: the completions as text, or None where the model has no tokenizer.
        nfe: forward passes of the model.
        row_nfe: forward passes each row took part in; they do not depend on its batch.
        stats: counts and times.
        trace: every step of every row, or None unless asked for.

    """

    tokens: Tensor
    completions: list[list[int]]
    text: list[str] | None
    nfe: int
    row_nfe: list[int]
    stats: Stats
    trace: list[Move] | None


@dataclass(frozen=True)
class Event:
    """One moment of `Decoder.stream`.

    Attributes:
        tokens: the response canvas as it stands, int64[max_new_tokens]; open slots hold the mask id.
        open: slots not decided yet, bool[max_new_tokens].
        provisional: tokens with each open slot of the window replaced by its candidate.
        committed: text of the settled slots up to the first open one.
        text: text of the whole canvas, open slots drawn as shade blocks.
        provisional_text: text of `provisional`, slots behind the window drawn as shade blocks.
        nfe: forwards so far.
        done: whether this is the last event.
        generation: the result, with the last event; else None.

    """

    tokens: Tensor
    open: Tensor
    provisional: Tensor
    committed: str
    text: str
    provisional_text: str
    nfe: int
    done: bool
    generation: Generation | None
