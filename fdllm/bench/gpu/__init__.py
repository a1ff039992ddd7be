"""What a device computes, checked and then timed: `python -m fdllm.bench.gpu`."""
