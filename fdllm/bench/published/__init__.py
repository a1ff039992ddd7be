"""fdllm against the published Fast-dLLM code: same weights, same tokens, in turn; see `__main__.py`."""
