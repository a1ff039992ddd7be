"""The parts that one denoising step is wired from."""

from dataclasses import dataclass

from fdllm.attention.base import AttentionBackend
from fdllm.models.denoiser import Denoiser
from fdllm.policies.base import UnmaskingPolicy
from fdllm.temperatures.base import TemperatureSchedule


@dataclass(frozen=True)
class Sampling:
    """How candidates are drawn; see `fdllm.compile`."""

    temperature: float | TemperatureSchedule = 0.0
    top_p: float | None = None
    top_k: int | None = None

    @property
    def narrowed(self) -> bool:
        """Whether the distribution is cut to its likeliest ids."""
        return self.top_p is not None or self.top_k is not None


@dataclass(frozen=True)
class Wiring:
    """The parts of a step.

    Attributes:
        planned: the policy says how many commits each step is due.
        kernels: `auto`, `torch` or `triton`: the form of the kernels.

    """

    denoiser: Denoiser
    policy: UnmaskingPolicy
    attention: AttentionBackend
    sampling: Sampling
    planned: bool
    kernels: str = "auto"
