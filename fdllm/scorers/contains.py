"""Look for the reference in a text."""

from typing import final

from pydantic import Field

from fdllm.scorers.base import Scorer


@final
class Contains(Scorer):
    """Right where the reference occurs in the text, anywhere, also inside a word."""

    ignore_case: bool = Field(False, description="take capitals and small letters for the same")

    def check(self, reference: str) -> None:
        """Refuse an empty reference, which every text contains."""
        if not reference:
            raise ValueError("contains wants a text to look for, got ''")

    def right(self, text: str, reference: str) -> bool:
        """Search for the reference as it stands."""
        if self.ignore_case:
            return reference.casefold() in text.casefold()
        return reference in text
