"""An external decoder for `fdllm bench`: one token a step with plain transformers, and nothing of fdllm.

    fdllm convert tiny runs/tiny-native
    fdllm bench examples/external.toml --limit 5

It reads native checkpoints of full attention, and speaks the protocol of docs/benchmarking.md: one JSON object a line,
requests on stdin, answers on stdout.
"""

import json
import sys
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM


class Decoder:
    """A checkpoint as transformers loads it."""

    def load(
        self, model: dict[str, Any], generate: dict[str, Any], threads: int, options: dict[str, Any]
    ) -> dict[str, Any]:
        """Load it; `generate` is the grid's table, `options` are the row's, and this decoder looks at neither."""
        torch.set_num_threads(threads)
        self.device, dtype = model["device"], getattr(torch, model["dtype"])
        self.mask_id = AutoConfig.from_pretrained(model["path"]).fdllm["spec"]["mask_id"]
        self.network = AutoModelForCausalLM.from_pretrained(model["path"], dtype=dtype).to(self.device).eval()
        return {"record": {"torch": torch.__version__, **options}}

    def decode(self, prompts: list[list[int]], max_new_tokens: int, block_length: int, seed: int) -> dict[str, Any]:
        """Decode one prompt after the other; a forward a token, at temperature 0."""
        tokens = [self.one(prompt, max_new_tokens, block_length) for prompt in prompts]
        return {"tokens": tokens, "nfe": [max_new_tokens] * len(prompts)}

    @torch.no_grad()
    def one(self, prompt: list[int], new: int, block: int) -> list[int]:
        """Fill block after block, the most confident slot first."""
        ids = torch.tensor([prompt + [self.mask_id] * new], device=self.device)
        for step in range(new):
            start = len(prompt) + step // block * block
            window = slice(start, min(start + block, ids.shape[1]))
            logits = self.network(ids, use_cache=False).logits[0, window].float()
            logits[:, self.mask_id] = -torch.inf
            best = logits.softmax(-1).max(-1)
            at = best.values.where(ids[0, window] == self.mask_id, -1.0).argmax()
            ids[0, start + at] = best.indices[at]
        return ids[0, len(prompt) :].tolist()


decoder = Decoder()
for line in sys.stdin:
    ((request, fields),) = json.loads(line).items()
    print(json.dumps(getattr(decoder, request)(**fields)), flush=True)
