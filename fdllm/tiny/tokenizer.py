"""Builds the tiny model's tokenizer: byte-level BPE in which every digit is a token of its own."""

import json
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from fdllm.tiny.problems import problems

EOS, MASK, START, PAD = "<|endoftext|>", "<|mdm_mask|>", "<|startoftext|>", "<|pad|>"
EOS_ID, MASK_ID, START_ID, PAD_ID = range(4)
TRAINING_PROBLEMS = 30_000


def build() -> Tokenizer:
    """Train the tokenizer on a fixed sample of training problems; the result is always the same."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=20,
        special_tokens=[EOS, MASK, START, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    sample = islice(problems("tokenizer"), TRAINING_PROBLEMS)
    tokenizer.train_from_iterator((p.question + p.text + "\n\n" for p in sample), trainer)
    return tokenizer


def save(folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, as AutoTokenizer reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    build().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "pad_token": PAD,
        "mask_token": MASK,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
