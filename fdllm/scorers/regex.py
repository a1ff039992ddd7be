"""Compare what a regular expression finds in a text."""

import re
from typing import final

from pydantic import Field, field_validator

from fdllm.scorers.base import Scorer


@final
class Regex(Scorer):
    """Right where the first match of `pattern` in the text equals the reference.

    What is compared is group 1 of the match where the pattern has groups, else the whole match, without white space at
    its ends, as the reference is. Flags stand in the pattern, such as `(?i)`. How long a search takes depends on the
    pattern alone.
    """

    pattern: str = Field(min_length=1, description="a regular expression of Python's `re`, searched for in the text")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, given: str) -> str:
        try:
            re.compile(given)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}; got {given!r}") from None
        return given

    def right(self, text: str, reference: str) -> bool:
        """Search and compare; a text without a match is wrong, and so is a match without group 1."""
        found = re.search(self.pattern, text)
        if found is None:
            return False
        compared = found[1] if found.re.groups else found[0]
        return compared is not None and compared.strip() == reference.strip()
