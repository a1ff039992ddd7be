"""fdllm as a model of lm-evaluation-harness: importing this package registers it, by the name `fdllm`.

The harness finds models by name in a registry of its own and reads no entry points, so whoever
wants the name imports this package first; the command `fdllm-lm-eval` does. The model is imported when it is asked for.
"""

from lm_eval.api.registry import model_registry

model_registry.register("fdllm", target="fdllm_lm_eval.model:FdllmLM")
