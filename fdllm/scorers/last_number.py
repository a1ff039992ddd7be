"""Compare the last number of a text, or the one after `####`, as grade-school answers end.

Source: the answers of openai/gsm8k end in `#### 18`. lm-evaluation-harness scores twice, `strict-match` by the number
after `####` and `flexible-extract` by the last number; here it is the one where there is a `####`, else the other.
"""

import re
from decimal import Decimal
from typing import final

from fdllm.scorers.base import Scorer

# a minus is a sign where nothing to subtract from stands before it: 12-5 ends in 5, x = -5 in -5
SIGN = r"(?:(?<![\w).])-\$?|\$-?)?"
DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
NUMBER = re.compile(f"{SIGN}(?:{DIGITS})")
POWER = re.compile(r"[0-9.][eE][+-]?[0-9]+\s*$")


def number_of(text: str) -> Decimal | None:
    """Read the number right behind the first `####`; without a `####`, the last number.

    Thousands commas and a dollar sign do not count; fractions, words and powers of ten are no numbers.
    """
    _, mark, marked = text.partition("####")
    if mark:
        found = NUMBER.match(marked.lstrip(" \t"))
        return found and _value(found)
    *_, last = [None, *NUMBER.finditer(text)]
    return last and _value(last)


def _value(found: re.Match[str]) -> Decimal:
    return Decimal(found[0].replace(",", "").replace("$", ""))


@final
class LastNumber(Scorer):
    """Right where the last number of the text, or the one behind its first `####`, equals that of the reference.

    Numbers are compared as such, exactly: 1,234.0 is 1234.
    """

    def check(self, reference: str) -> None:
        """Refuse a reference without a number, and a power of ten, whose last number is its exponent."""
        if number_of(reference) is None or POWER.search(reference):
            raise ValueError(f"last-number wants a number, such as 42 or '#### 42', got {reference!r}")

    def right(self, text: str, reference: str) -> bool:
        """Compare; a text without a number is wrong."""
        found = number_of(text)
        return found is not None and found == number_of(reference)
