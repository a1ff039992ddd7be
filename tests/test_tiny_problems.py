"""The tiny model's corpus: right arithmetic, one number range, a split by content, and a faithful tokenizer."""

import re
from collections import Counter
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fdllm.tiny.draws import LARGEST, RedrawError, equation
from fdllm.tiny.masks import DIGIT, NAME, NOUN, class_of, draw_masks
from fdllm.tiny.problems import FAMILIES, Problem, answer_of, few_shot, problems
from fdllm.tiny.tokenizer import EOS_ID, MASK_ID, PAD_ID, build

SAMPLE = 1500
WEIGHTS = Path(__file__).parents[1] / "fdllm" / "tiny" / "weights"
OPERATORS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}


@pytest.fixture(scope="module")
def sample() -> list[Problem]:
    """Problems of both splits."""
    return [*islice(problems(7), SAMPLE), *islice(problems(7, "test"), SAMPLE // 10)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Load the published tokenizer."""
    return Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))


def test_every_equation_is_right_and_the_last_is_the_answer(sample: list[Problem]) -> None:
    """Each step computes what it says without a remainder; some step's result is the answer."""
    for problem in sample:
        equations = re.findall(r"(\d+)([-+*/])(\d+)=(\d+)", problem.text)
        assert len(equations) == problem.text.count("=") >= 1
        for left, operator, right, result in equations:
            assert OPERATORS[operator](int(left), int(right)) == int(result), problem
            assert operator != "/" or int(left) % int(right) == 0
        assert int(equations[-1][3]) == problem.answer == answer_of(problem.text)


def test_every_number_is_in_range(sample: list[Problem]) -> None:
    """Stated and computed numbers lie in 1..99."""
    for problem in sample:
        numbers = [int(n) for n in re.findall(r"\d+", problem.question + problem.text)]
        assert all(1 <= n <= LARGEST for n in numbers), problem


def test_operands_come_from_the_question_or_an_earlier_step(sample: list[Problem]) -> None:
    """Nothing is used that was not told or computed, but for the words half, twice, a third and the like."""
    words = {"half": 2, "doubles": 2, "twice": 2, "triples": 3, "third": 3, "quarter": 4}
    for problem in sample:
        known = {int(n) for n in re.findall(r"\d+", problem.question)}
        known |= {n for word, n in words.items() if word in problem.question}
        for left, right, result in re.findall(r"(\d+)[-+*/](\d+)=(\d+)", problem.text):
            assert {int(left), int(right)} <= known, problem
            known.add(int(result))


def test_splits_share_no_key(sample: list[Problem]) -> None:
    """A key decides its split alone, and about one in twenty is held out."""
    keys = {split: {p.key for p in sample if p.split == split} for split in ("train", "test")}
    assert keys["train"] and keys["test"] and not keys["train"] & keys["test"]


def test_key_holds_every_number(sample: list[Problem]) -> None:
    """Two problems with one key state the same numbers, whatever the names."""
    told: dict[str, Counter[str]] = {}
    for problem in sample:
        numbers = Counter(re.findall(r"\d+", problem.question + problem.text))
        assert told.setdefault(problem.key, numbers) == numbers


def test_all_families_occur(sample: list[Problem]) -> None:
    """No family is starved by redraws."""
    counts = Counter(problem.family for problem in sample)
    assert set(counts) == set(FAMILIES) and min(counts.values()) > SAMPLE / 20


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_same_seed_same_problems(seed: int) -> None:
    """The stream is a function of the seed and the split."""
    assert [*islice(problems(seed), 5)] == [*islice(problems(seed), 5)]


def test_stream_is_pinned() -> None:
    """The corpus the published weights saw: a change here needs new weights."""
    first = next(problems(0))
    assert (
        first.text
        == " First she reads 6*6=36 pages. Then she reads 6*5=30 pages. In total she reads 36+30=66 pages.\n#### 66"
    )
    assert crc32(repr([*islice(problems(0), 1000)]).encode()) == 2965639326


@given(left=st.integers(-5, 120), operator=st.sampled_from("+-*/"), right=st.integers(1, 120))
def test_equation_is_right_or_redrawn(left: int, operator: str, right: int) -> None:
    """Out of range numbers and remainders never leave `equation`."""
    try:
        spelled, result = equation(left, operator, right)
    except RedrawError:
        return
    assert spelled == f"{left}{operator}{right}={result}" and min(left, right, result) >= 1
    assert max(left, right, result) <= LARGEST and OPERATORS[operator](left, right) == result


@pytest.mark.parametrize(
    ("text", "answer"),
    [(" a\n#### 19", 19), ("#### 7 and 8\n#### 9", 7), ("####747", 747), ("#### x", None), ("19", None), ("", None)],
)
def test_answer_of(text: str, answer: int | None) -> None:
    """The first number behind the mark counts; anything else is no answer."""
    assert answer_of(text) == answer


def test_few_shot_prompt_ends_with_the_question(sample: list[Problem]) -> None:
    """Examples come first, each with its answer, and none for the last question."""
    prompt = few_shot(sample[:3], sample[3])
    assert prompt.endswith(sample[3].question) and prompt.count("#### ") == 3 and prompt.count("Question:") == 4


def test_tokenizer_round_trip(sample: list[Problem], tokenizer: Tokenizer) -> None:
    """Text survives, digits are single tokens, and few-shot prompts are the concatenation of their parts."""
    for problem in sample:
        text = problem.question + problem.text
        encoded = tokenizer.encode(text)
        assert tokenizer.decode(encoded.ids) == text
        assert sum(token.isdigit() for token in encoded.tokens) == sum(letter.isdigit() for letter in text)
        assert encoded.ids == tokenizer.encode(problem.question).ids + tokenizer.encode(problem.text).ids
    assert tokenizer.decode(tokenizer.encode("Grüße, 世界 1234").ids) == "Grüße, 世界 1234"


def test_names_nouns_and_digits_are_single_tokens(tokenizer: Tokenizer) -> None:
    """What focus rows mask is found token by token."""
    counts = Counter(class_of(tokenizer).tolist())
    assert (counts[NAME], counts[NOUN], counts[DIGIT]) == (16, 19, 10)


def test_published_tokenizer_is_what_build_makes(tokenizer: Tokenizer) -> None:
    """The file is reproducible, with its special ids where the configuration says."""
    assert build().to_str() == tokenizer.to_str()
    assert [tokenizer.id_to_token(i) for i in (EOS_ID, MASK_ID, PAD_ID)] == ["<|endoftext|>", "<|mdm_mask|>", "<|pad|>"]


@given(seed=st.integers(0, 2**32), focus=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=50, deadline=None)
def test_masks_stay_in_the_response(seed: int, focus: float) -> None:
    """Every row has a masked token, none in the prompt, and weights are positive exactly there."""
    own = np.random.default_rng(seed)
    start = own.integers(0, 20, (6, 1))
    end = start + own.integers(4, 30, (6, 1))
    classes = np.where(np.arange(64) < end, own.integers(0, 5, (6, 64)), 0)
    np.put_along_axis(classes, start + 1, DIGIT, 1)
    masked, weight = draw_masks(classes, start, end, focus, own)
    assert masked.any(1).all() and not (masked & (np.arange(64) < start)).any()
    assert ((weight > 0) == masked).all()
