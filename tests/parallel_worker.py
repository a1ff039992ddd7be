"""What each process of test_parallel.py does: `torchrun parallel_worker.py FOLDER`, where job.json says what."""

import json
import os
import sys
from hashlib import sha256
from pathlib import Path

import torch

import fdllm
from fdllm.caches.base import Rows
from fdllm.cli.main import run
from fdllm.models.feed import feed

torch.set_num_threads(1)


def decoded(model, cache, prompts):
    """Tokens and forwards of a cached decode, greedy and drawn."""
    how = {"cache": cache, "max_new_tokens": 12, "block_length": 4, "stop_at_eos": False}
    greedy = fdllm.compile(model, policy={"name": "threshold", "threshold": 0.5}, **how).generate(prompts)
    drawn = fdllm.compile(model, policy="top-k", temperature=0.8, **how).generate(prompts, seed=7)
    return {"tokens": [greedy.tokens.tolist(), drawn.tokens.tolist()], "nfe": [greedy.nfe, drawn.nfe]}


def decoded_in_triton(model, cache, prompts):
    """Tokens of a short decode by interpreted kernels, and whether rotation and write are one of them."""
    decoder = fdllm.compile(model, cache=cache, kernels="triton", max_new_tokens=4, block_length=4, stop_at_eos=False)
    return {"tokens": decoder.generate(prompts).tokens.tolist(), "chosen": "store_kv in triton" in decoder.explain()}


def heads_stored(model, length=8):
    """K/V heads of this process, as the store holds them after a forward."""
    store = model.new_store(1, length)
    whole = feed(model.spec, [Rows(range(length))], [range(1, length)], [length])
    with torch.inference_mode():
        model.hidden(torch.arange(5, 5 + length)[None], whole, store, model.attention)
    return store.slot_layers[0].keys.shape[1]


def report(path, cache, prompts):
    model = fdllm.load(path, tp=2)
    logits = model.logits(torch.tensor(prompts[:1]))
    query = model.module.model.layers[0].self_attn.q_proj.weight.to_local()
    return {
        **decoded(model, cache, prompts),
        "triton": decoded_in_triton(model, cache, prompts),
        "tp": model.tp,
        "logits": logits.tolist(),
        "bits": sha256(logits.numpy().tobytes()).hexdigest(),
        "heads": heads_stored(model),
        "query": list(query.shape),
    }


def refusal(path):
    try:
        fdllm.load(path, tp=2)
    except ValueError as error:
        return str(error)


def main(folder):
    job = json.loads((folder / "job.json").read_text())
    found = {name: report(**each, prompts=job["prompts"]) for name, each in job["models"].items()}
    refused = {name: refusal(path) for name, path in job["refused"].items()}
    codes = [run(command) for command in job["commands"]]
    result = {"models": found, "refused": refused, "codes": codes}
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
