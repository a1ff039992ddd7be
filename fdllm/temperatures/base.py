"""What a temperature schedule is: from the step within a window to the temperature candidates are drawn at."""

from abc import abstractmethod

from fdllm.component import Component
from fdllm.types import StepCount, Temperature


class TemperatureSchedule(Component):
    """Give the sampling temperature of a step. A plain number is the same temperature at every step.

    Law, checked by `fdllm.testing.check_temperature`: positive and finite at every step of a window
    of any length, and a row's temperature does not depend on the rows around it.
    """

    @abstractmethod
    def __call__(self, step: StepCount, steps: StepCount) -> Temperature:
        """Return the temperature, float32[B 1].

        Args:
            step: step within the window, from 0, int64[B 1].
            steps: the most steps the window takes, int64[B 1].

        """
