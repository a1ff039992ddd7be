"""Cool down from one temperature to another, by the same amount each step.

Source: transformers, DiffusionGemma, LinearTemperatureScheduleLogitsProcessor: with N steps, step n
counted from N down to 1 has end + (start - end) n / N, so `end` itself would be one step further.
"""

from typing import final

from pydantic import Field

from fdllm.temperatures.base import LEAST, MOST, TemperatureSchedule
from fdllm.types import StepCount, Temperature


@final
class Linear(TemperatureSchedule):
    """Draw at `start` in the first step of a window, and ever closer to `end`."""

    start: float = Field(0.8, ge=LEAST, le=MOST, description="temperature of the first step")
    end: float = Field(0.4, ge=LEAST, le=MOST, description="temperature one step behind the last")

    def __call__(self, step: StepCount, steps: StepCount) -> Temperature:
        """Interpolate; see the base class."""
        return self.end + (self.start - self.end) * ((steps - step) / steps)
