"""What a temperature schedule is: from the step within a window to the temperature candidates are drawn at."""

from abc import abstractmethod

from fdllm.component import Component
from fdllm.types import StepCount, Temperature

# below, noise moves no logit by more than 0.02 (it lies within -3 and 17), and far below, float32 cannot divide by it;
# above, all ids are as likely
LEAST, MOST = 1e-3, 1e3


class TemperatureSchedule(Component):
    """Give the sampling temperature of a step. A plain number is the same temperature at every step.

    Law, checked by `fdllm.testing.check_temperature`: from `LEAST` to `MOST` at every step of a window
    of any length, and a row's temperature does not depend on the rows around it.
    """

    @abstractmethod
    def __call__(self, step: StepCount, steps: StepCount) -> Temperature:
        """Return the temperature, float32[B 1].

        Args:
            step: step within the window, from 0, int64[B 1].
            steps: the most steps the window takes, int64[B 1].

        """
