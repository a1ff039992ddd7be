"""The laws of components, held by hypothesis. A plugin's whole test is one call.

    def test_my_policy() -> None:
        check_policy(MyPolicy())

Every check raises AssertionError with a sentence that names the law.
"""

from fdllm.testing.attention import check_attention
from fdllm.testing.cache import check_cache
from fdllm.testing.decoding import check_decoding, check_pass, check_result, check_schedule, check_temperature
from fdllm.testing.denoiser import check_denoiser
from fdllm.testing.execution import check_execution
from fdllm.testing.policy import check_policy, choose
from fdllm.testing.strategies import EOS_ID, MASK_ID, VOCABULARY, few, many, random_model, situations, tasks
from fdllm.testing.task import check_scorer, check_task

__all__ = [
    "EOS_ID",
    "MASK_ID",
    "VOCABULARY",
    "check_attention",
    "check_cache",
    "check_decoding",
    "check_denoiser",
    "check_execution",
    "check_pass",
    "check_policy",
    "check_result",
    "check_schedule",
    "check_scorer",
    "check_task",
    "check_temperature",
    "choose",
    "few",
    "many",
    "random_model",
    "situations",
    "tasks",
]
