"""The model `fdllm` of lm-evaluation-harness: texts from a compiled decoder, likelihoods from masks."""

import logging
from collections.abc import Sequence
from typing import Any, Self, final

import lm_eval.utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix
from tqdm import tqdm

from fdllm.chat import text_of
from fdllm.component import SettingError
from fdllm_lm_eval import likelihood, settings, wishes
from fdllm_lm_eval.decoders import Decoders
from fdllm_lm_eval.wishes import Wish

# below the harness's own, whose level and form it takes
logger = logging.getLogger("lm_eval.fdllm")
# what the harness passes where the user names no device
UNSAID_DEVICE = "cuda:0"


@final
class FdllmLM(TemplateLM):
    """A decoding config as a model: `--model fdllm --model_args path=...,cache=dual,policy=threshold,threshold=0.9`.

    Attributes:
        config: what the model arguments add up to.
        options: what is no setting of a decoder.
        decoders: what the config compiles to, by what tasks wish.
        model: what is decoded with and scored.

    """

    def __init__(self, *, batch_size: int | str = 1, max_batch_size: int | None = None, **model_args: Any) -> None:
        """Load the model and compile the decoder.

        Args:
            batch_size: prompts decoded together; it changes the speed and not the tokens.
            max_batch_size: not taken, for it bounds a search that fdllm does not make.
            model_args: see `fdllm_lm_eval.settings.read`.

        Raises:
            ValueError: an argument is wrong; names its key.

        """
        super().__init__()
        self.batch_size = _size(batch_size, max_batch_size)
        self.config, self.options = settings.read(model_args)
        self.decoders = Decoders(self.config)
        self.model = self.decoders.plain.model
        self.tokenizer = self.model.tokenizer
        if self.tokenizer is None:
            raise SettingError(f"model: {self.model.name} has no tokenizer, and tasks are text; give one that has")
        if self.options.add_bos and self.tokenizer.bos_token_id is None:
            raise SettingError(f"model_args.add_bos: the tokenizer of {self.model.name} has no begin of text; drop it")
        self._device = self.model.device
        self._scored = 0

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> Self:
        """Make one from parsed arguments; a device among them stands above the one of the harness."""
        more = {key: value for key, value in (additional_config or {}).items() if value is not None}
        if {"device", "model.device"} & set(arg_dict) or more.get("device") == UNSAID_DEVICE:
            more.pop("device", None)
        return cls(**{**more, **arg_dict})

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Self:
        """Make one from `key=value,key=value`."""
        return cls.create_from_arg_obj(lm_eval.utils.simple_parse_args_string(arg_string), additional_config)

    # generation

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Decode one text for each request, in their order; a request's number is its row id."""
        wished, until = zip(*(wishes.read(request.args[1]) for request in requests), strict=True)
        # all of them read before the first is decoded
        prompts = {wish: self._prompts(requests, wished, wish) for wish in dict.fromkeys(wished)}
        texts = [""] * len(requests)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="fdllm: generate_until") as bar:
            for wish, mine in prompts.items():
                decoder, totals = self.decoders.of(wish)
                for batch in wishes.batches(decoder, mine, self.batch_size):
                    out = decoder.generate([mine[i] for i in batch], self.config.generate.seed, row_ids=batch)
                    for i, ids in zip(batch, out.completions, strict=True):
                        texts[i] = self._text(ids[: wish.max_gen_toks], until[i])
                        self.cache_hook.add_partial("generate_until", requests[i].args, texts[i])
                    totals.add(out)
                    bar.update(len(batch))
                logger.info("fdllm: %s", totals)
        return texts

    def _prompts(self, requests: list[Instance], wished: Sequence[Wish], wish: Wish) -> dict[int, list[int]]:
        """Read the prompts of one wish, by the number of their request."""
        num_new = self.decoders.of(wish)[0].plan.max_new_tokens
        numbers = (number for number, each in enumerate(wished) if each == wish)
        return {i: self._fitted(self.tok_encode(requests[i].args[0]), num_new, "max_gen_toks") for i in numbers}

    def _fitted(self, ids: list[int], behind: int, what: str) -> list[int]:
        """Drop the begin of what does not fit before so many slots, as the harness's own models do, and say so."""
        if self.max_length is None:
            return ids
        room = self.max_length - behind
        if room < 1:
            raise SettingError(
                f"{what}: {behind} tokens leave no room for a prompt in the model's context of {self.max_length}; "
                "ask for fewer, or take a model of longer context"
            )
        if len(ids) > room:
            logger.warning("fdllm: a prompt is %d tokens too long; its begin is dropped", len(ids) - room)
        return ids[-room:]

    def _text(self, ids: list[int], until: tuple[str, ...]) -> str:
        """Write ids as text: cut where the task says, which may be at a special token, then without special tokens."""
        text = wishes.cut(self.tokenizer.decode(ids, skip_special_tokens=False), until)
        for special in self.tokenizer.all_special_tokens:
            text = text.replace(special, "")
        return text

    # likelihood

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Score each continuation, int ids, after its context."""
        likelihood.check(self.model)
        found = []
        for asked, context, continuation in tqdm(requests, disable=disable_tqdm, desc="fdllm: loglikelihood"):
            prefix = self._fitted(context or [self.prefix_token_id], len(continuation), "loglikelihood")
            score = self._score(prefix, continuation), likelihood.is_greedy(self.model, prefix, continuation)
            self.cache_hook.add_partial("loglikelihood", asked, score)
            found.append(score)
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts, each in windows as long as the context, after the begin-of-text or an end token."""
        likelihood.check(self.model)
        found = []
        for request in tqdm(requests, disable=disable_tqdm, desc="fdllm: loglikelihood_rolling"):
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            # a masked token and what predicts it share a slot, so a window holds one token less than the context
            width = len(ids) if self.max_length is None else self.max_length - 1
            windows = lm_eval.utils.get_rolling_token_windows(
                token_list=ids, prefix_token=self.prefix_token_id, max_seq_len=max(width, 1), context_len=1
            )
            score = sum((self._score(*pair) for pair in map(lm_eval.utils.make_disjoint_window, windows)), 0.0)
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, score)
            found.append(score)
        return found

    def _score(self, prefix: list[int], answer: list[int]) -> float:
        self._scored += 1
        return likelihood.log_likelihood(self.model, prefix, answer, self.options, self.config.generate.seed)

    # what the harness asks besides

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        if not self.model.spec.eos_ids:
            raise SettingError(f"model.eos_ids: {self.model.name} names no token that ends a text; give it")
        return self.model.spec.eos_ids[0]

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context: the token that begins one, or else the one that ends one."""
        first: int | None = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else first

    @property
    def max_length(self) -> int | None:
        """Slots of prompt and response; None: any number."""
        return self.model.spec.context

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Read a text as ids; unless told, special tokens are added where it does not begin with one already."""
        begun = has_bos_prefix(string, self.tokenizer.bos_token)
        add = not begun if add_special_tokens is None else add_special_tokens
        ids = list(self.tokenizer(string, add_special_tokens=add).input_ids)
        missing = add and self.options.add_bos and ids[:1] != [self.prefix_token_id]
        return [self.prefix_token_id, *ids] if missing else ids

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Write a conversation by the model's chat template; without a generation prompt its last message goes on."""
        return text_of(chat_history, self.model, continued=not add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer, for the harness's cache of requests."""
        return self.model.name.replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """Give what the results file records under `config`: settings, and what each decoder was and spent."""
        return {
            "fdllm": {
                "settings": self.config.to_dict(),
                "options": self.options.model_dump(),
                "generation": self.decoders.report(),
                "scored": self._scored,
            }
        }


def _size(given: int | str, most: int | None) -> int:
    if most is not None or not str(given).isdecimal() or int(given) < 1:
        got = f"batch_size = {given!r}" + ("" if most is None else f" and max_batch_size = {most!r}")
        raise SettingError(f"batch_size: wanted a whole number of at least 1, without a search for one, got {got}")
    return int(given)
