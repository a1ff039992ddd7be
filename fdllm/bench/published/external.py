"""The published code as an external decoder of a grid.

    command = ["PYTHON", "fdllm/bench/published/external.py", "DIR"]
    options = { cache = "dual", threshold = 0.9 }

PYTHON and DIR are those of `worker.py`, which stands beside it. `options` are `cache`, one of none,
prefix and dual, and `threshold`, or `steps` of a whole response; one token a step unless given.
The published code decodes to the end of the canvas, so the time of its whole response counts.
"""

import sys
from pathlib import Path
from typing import Any

from worker import Published, code_folder, serve  # type: ignore[import-not-found]


class Decoder:
    """A loaded checkpoint, and how it is decoded."""

    def __init__(self, published: Any) -> None:
        """Hold the code; nothing is loaded yet."""
        self.published = published
        self.cache = "none"
        self.policy: dict[str, Any] = {}

    def load(
        self, model: dict[str, Any], generate: dict[str, Any], threads: int, options: dict[str, Any]
    ) -> dict[str, Any]:
        """Load a checkpoint folder in float32 on the CPU; see `docs/benchmarking.md`."""
        if (model["device"], model["dtype"]) != ("cpu", "float32"):
            raise ValueError(
                f"[model]: the published code runs in float32 on the CPU here, got dtype {model['dtype']} on "
                f'{model["device"]}; give dtype = "float32" and device = "cpu"'
            )
        if generate.get("temperature"):
            raise ValueError(f"[generate]: temperature is 0 here, got {generate['temperature']}; drop it")
        if unknown := set(options) - {"cache", "threshold", "steps"}:
            raise ValueError(f"options: no such key {unknown.pop()!r}; known: cache, threshold, steps")
        self.policy = dict(options)
        self.cache = self.policy.pop("cache", "none")
        if self.cache not in self.published.loops:
            raise ValueError(f"options.cache: got {self.cache!r}; known: {', '.join(self.published.loops)}")
        return {"record": self.published.load(model["path"], threads)["versions"]}

    def decode(self, prompts: list[list[int]], max_new_tokens: int, block_length: int, seed: int) -> dict[str, Any]:
        """Decode one prompt after the other, at temperature 0."""
        del seed
        how = {"new": max_new_tokens, "block": block_length, "cache": self.cache, "policy": self.policy}
        found = [self.published.decode(prompt, **how) for prompt in prompts]
        return {"tokens": [each["tokens"] for each in found], "nfe": [each["nfe"] for each in found]}


if __name__ == "__main__":
    decoder = Decoder(Published(code_folder(Path(sys.argv[1]))))
    serve({"load": decoder.load, "decode": decoder.decode})
