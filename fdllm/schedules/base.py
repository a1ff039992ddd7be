"""What a schedule is: the decode windows of a response, in the order they are filled."""

from abc import abstractmethod

from fdllm.component import Component


class Schedule(Component):
    """Cut the response into windows. A window is full before the next one begins.

    Law: the windows cover the response once, from left to right.
    """

    @abstractmethod
    def windows(self, max_new_tokens: int, offset: int) -> tuple[range, ...]:
        """Return the windows as ranges of response slots; 0 is the first slot after the prompt.

        Args:
            max_new_tokens: slots of the response.
            offset: slots of the prompt that stand in one block with the first response slot. It is
                0 unless the model attends block by block, counting blocks from the prompt's start.

        """
