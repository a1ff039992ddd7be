"""Benchmarks: each a module with a `main`, run as `python -m fdllm.bench.<name>`; none of them is a test."""
