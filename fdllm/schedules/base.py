"""What a schedule is: the decode windows of a response, in the order they are filled."""

from abc import abstractmethod

from fdllm.component import Component


class Schedule(Component):
    """Cut the response into windows. A window is full before the next one begins.

    Law: the windows cover the response once, from left to right.
    """

    @abstractmethod
    def windows(self, max_new_tokens: int) -> tuple[range, ...]:
        """Return the windows as ranges of response slots; 0 is the first slot after the prompt."""
