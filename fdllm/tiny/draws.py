"""Seeded draws for one word problem: numbers and structure go into its key, wording does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

T = TypeVar("T")

LARGEST = 99
"""Every number stated or computed lies in 1..LARGEST."""

MALE = ("Tom", "Ben", "Sam", "Leo", "Max", "Jack", "Omar", "Ivan")
FEMALE = ("Mia", "Ana", "Eva", "Lily", "Zoe", "Nina", "Sara", "Ella")
NOUNS = ("apples", "pears", "plums", "lemons", "eggs", "books", "pens", "coins", "cards", "shells", "flowers", "toys")
PACKS = ("bags", "boxes", "baskets")


class RedrawError(Exception):
    """These draws make no problem (a number left its range); draw again."""


@dataclass(frozen=True)
class Person:
    """A name with its pronouns."""

    name: str
    he: str
    him: str
    his: str

    @property
    def start(self) -> str:
        """The pronoun that begins a sentence."""
        return self.he.capitalize()


class Draw:
    """The draws of one problem, in order; `key` collects what makes two problems the same problem."""

    def __init__(self, random: Random, family: str) -> None:
        """Start the key with the family's name."""
        self.random = random
        self.key: list[str] = [family]

    def number(self, low: int, high: int) -> int:
        """One integer from low..high, both included; an empty range is a redraw."""
        if low > high:
            raise RedrawError
        return int(self.structure(range(low, high + 1)))

    def structure(self, options: Sequence[T]) -> T:
        """One option, uniform, kept in the key."""
        option = self.random.choice(options)
        self.key.append(str(option))
        return option

    def chance(self, probability: float) -> bool:
        """Toss a coin that shows true with this probability, kept in the key."""
        happens = self.random.random() < probability
        self.key.append(str(int(happens)))
        return happens

    def wording(self, *options: str) -> str:
        """One wording, uniform, not kept in the key."""
        return self.random.choice(options)

    def nouns(self, count: int) -> list[str]:
        """Different plural nouns."""
        return self.random.sample(NOUNS, count)

    def people(self, count: int) -> list[Person]:
        """Different people."""
        names = self.random.sample(MALE + FEMALE, count)
        return [Person(n, "he", "him", "his") if n in MALE else Person(n, "she", "her", "her") for n in names]


def equation(left: int, operator: str, right: int) -> tuple[str, int]:
    """Spell and solve one equation, as in ("12+7=19", 19); out of range or with a remainder is a redraw."""
    if operator == "/" and left % right:
        raise RedrawError
    result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[operator]
    if not (1 <= result <= LARGEST and 1 <= left <= LARGEST and 1 <= right <= LARGEST):
        raise RedrawError
    return f"{left}{operator}{right}={result}", result
