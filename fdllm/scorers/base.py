"""What a scorer is: a rule that says whether a generated text answers a reference."""

from abc import ABC, abstractmethod

from fdllm.component import Component


class Scorer(Component, ABC):
    """Compare a text with its reference.

    Laws: the same text and reference give the same answer; any text is compared, the empty one and one that breaks
    off as well, for a wrong text is no error.
    """

    def check(self, reference: str) -> None:  # noqa: B027 - most references are right
        """Refuse a reference that no text could answer. Tasks ask when they are read, before anything is generated.

        Raises:
            ValueError: what was wanted, and what the reference is.

        """

    @abstractmethod
    def right(self, text: str, reference: str) -> bool:
        """Say whether a generated text answers the reference.

        Args:
            text: what was generated, cut where the task says it ends.
            reference: what is compared with; what it must be is the scorer's own.

        """
