"""A process that decodes with fdllm and answers the same JSON lines as `worker.py`.

python -m fdllm.bench.published.ours
"""

from typing import Any

import torch
import transformers

import fdllm
from fdllm.bench.published.worker import serve, timed
from fdllm.models.denoiser import Denoiser


class Ours:
    """A loaded checkpoint."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.model: Denoiser | None = None
        self.stops = False

    def load(self, path: str, threads: int, eos_id: int | None = None) -> dict[str, Any]:
        """Load a checkpoint in float32; with `eos_id` decoding stops there."""
        torch.set_num_threads(threads)
        self.stops = eos_id is not None
        ends = {} if eos_id is None else {"eos_ids": (eos_id,)}
        self.model = fdllm.load(path, dtype="float32", device="cpu", **ends)
        return {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}}

    def decode(self, prompt: list[int], new: int, block: int, cache: str, policy: dict[str, Any]) -> dict[str, Any]:
        """Decode one prompt; the time is that of the whole call."""
        assert self.model is not None
        decoder = fdllm.compile(
            self.model,
            cache=cache,
            policy={"name": "threshold" if "threshold" in policy else "top-k", **policy},
            max_new_tokens=new,
            block_length=block,
            stop_at_eos=self.stops,
        )
        out, times = timed(lambda: decoder.generate(torch.tensor([prompt])))
        return {"tokens": out.tokens[0].tolist(), "nfe": out.nfe, **times}


if __name__ == "__main__":
    ours = Ours()
    serve({"load": ours.load, "decode": ours.decode})
