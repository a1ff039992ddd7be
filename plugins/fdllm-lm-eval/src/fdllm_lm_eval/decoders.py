"""The decoders of a config, one for each wish, and what they have spent."""

from dataclasses import dataclass
from typing import Any

from fdllm.config import DecodingConfig
from fdllm.decoder import Decoder
from fdllm.generation import Generation
from fdllm.schedules.blocks import Blocks
from fdllm_lm_eval.wishes import Wish


@dataclass
class Totals:
    """Sums over the texts of one decoder, in fdllm's definitions.

    Attributes:
        texts: how many there are.
        nfe: forward passes of the model; one over a batch is one.
        row_nfe: forward passes each text took part in, summed; it does not depend on batches.
        visible_tokens: tokens up to the first eos, before a text is cut by what the task says.
        decode_seconds: synchronized time of all decodes.

    """

    texts: int = 0
    nfe: int = 0
    row_nfe: int = 0
    visible_tokens: int = 0
    decode_seconds: float = 0.0

    def add(self, out: Generation) -> None:
        """Enter a batch."""
        self.texts += len(out.completions)
        self.nfe += out.nfe
        self.row_nfe += sum(out.row_nfe)
        self.visible_tokens += out.stats.visible_tokens
        self.decode_seconds += out.stats.decode_seconds

    def __str__(self) -> str:
        rates = self.to_dict()
        return (
            f"{self.texts} texts, {self.visible_tokens} tokens, {self.nfe} forwards, "
            f"{rates['nfe_per_text']:.1f} a text, {rates['tokens_per_second']:.1f} tokens/s"
        )

    def to_dict(self) -> dict[str, float]:
        """Give sums and rates for a report; `nfe_per_text` is what a text alone would take."""
        return {
            **vars(self),
            "nfe_per_text": self.row_nfe / self.texts if self.texts else 0.0,
            "tokens_per_second": self.visible_tokens / self.decode_seconds if self.decode_seconds else 0.0,
            "tokens_per_forward": self.visible_tokens / self.row_nfe if self.row_nfe else 0.0,
        }


class Decoders:
    """Compile the decoder of a wish when the first text of it is asked for.

    Attributes:
        plain: the decoder of the config itself.

    """

    def __init__(self, config: DecodingConfig) -> None:
        """Load the model and compile the config, so that what is wrong with it is said at once."""
        self.config = config
        self.plain = config.compile()
        self._made: dict[Wish, tuple[Decoder, Totals]] = {}

    def of(self, wish: Wish) -> tuple[Decoder, Totals]:
        """Give the decoder of a wish, and the sums over its texts so far."""
        if wish not in self._made:
            self._made[wish] = (self._wished(wish).compile(self.plain.model), Totals())
        return self._made[wish]

    def report(self) -> list[dict[str, Any]]:
        """Give the record and the sums of each decoder that was used."""
        return [{"record": decoder.record(), **totals.to_dict()} for decoder, totals in self._made.values()]

    def _wished(self, wish: Wish) -> DecodingConfig:
        """Put a wish above the config; a length the config does not say is filled up to whole blocks."""
        tables = self.config.to_dict()
        said = {key: value for key, value in wish._asdict().items() if value is not None}
        own, schedule = self.config.generate.max_new_tokens, self.plain.plan.schedule
        num_new = said.pop("max_gen_toks", own)
        if num_new != own and isinstance(schedule, Blocks):
            num_new = -(-num_new // schedule.block_length) * schedule.block_length
        if "temperature" in said:
            tables.pop("temperature", None)
        if not said.get("temperature", self.config.generate.temperature or tables.get("temperature")):
            # as in `wishes.read`, where a wish says no temperature and the config's is 0
            said = {key: value for key, value in said.items() if key not in ("top_p", "top_k")}
        tables["generate"] |= {**said, "max_new_tokens": num_new}
        return DecodingConfig.from_dict(tables)
