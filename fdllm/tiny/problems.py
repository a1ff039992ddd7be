"""The corpus "gsm-mini": seeded arithmetic word problems with worked answers, split by what they compute.

A problem's key is its family, its structure and every number, in the order drawn, never names or wording. Whether it
is held out depends on the key alone, so no combination of numbers and structure of the test split is ever trained on.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Literal
from zlib import crc32

from fdllm.tiny.draws import Draw, RedrawError
from fdllm.tiny.families import compare, groups, inventory
from fdllm.tiny.money import earn, rate, shop

Split = Literal["train", "test"]

FAMILIES = {"inventory": inventory, "compare": compare, "shop": shop, "groups": groups, "rate": rate, "earn": earn}
WEIGHTS = (5, 3, 2, 2, 2, 2)
HELD_OUT = 20
"""One key in this many is held out."""


@dataclass(frozen=True)
class Problem:
    r"""One word problem.

    `question` is a prompt, "Question: ...\nAnswer:"; `text` is what should follow it, " ...\n#### 19".
    """

    question: str
    text: str
    answer: int
    key: str
    split: Split

    @property
    def family(self) -> str:
        """The family the problem belongs to, the first word of its key."""
        return self.key.partition("|")[0]


def problems(seed: int | str, split: Split = "train") -> Iterator[Problem]:
    """All problems of a seed, without end.

    Args:
        seed: the same seed gives the same problems, on every machine.
        split: which keys to keep; "test" keys are one in twenty, by checksum.

    Yields:
        Problems of that split, in the order drawn; a key can come twice, in other words.
    """
    random = Random(seed)
    while True:
        problem = _draw(random)
        if problem is not None and problem.split == split:
            yield problem


def held_out(count: int) -> list[Problem]:
    """Draw problems of the test split, each key once; not those that training was watched on."""
    return list(islice(once(problems("final", "test")), count))


def once(drawn: Iterable[Problem]) -> Iterator[Problem]:
    """Leave out problems whose key has come before."""
    seen = set()
    for problem in drawn:
        if problem.key not in seen:
            seen.add(problem.key)
            yield problem


def few_shot(shots: list[Problem], problem: Problem) -> str:
    """Write a prompt with worked examples in front of the question."""
    return "".join(f"{shot.question}{shot.text}\n\n" for shot in shots) + problem.question


def answer_of(text: str) -> int | None:
    """Read the number after the first "####" of a generated answer; None where there is none."""
    found = re.search(r"#### ?(\d+)", text)
    return int(found[1]) if found else None


def _draw(random: Random) -> Problem | None:
    family = random.choices(list(FAMILIES), WEIGHTS)[0]
    draw = Draw(random, family)
    try:
        story = FAMILIES[family](draw)
    except RedrawError:
        return None
    key = "|".join(draw.key)
    return Problem(
        question=f"Question: {' '.join(story.told)}\nAnswer:",
        text=f" {' '.join(story.steps)}\n#### {story.value}",
        answer=story.value,
        key=key,
        split="test" if crc32(key.encode()) % HELD_OUT == 0 else "train",
    )
