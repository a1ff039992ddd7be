"""Published decoding, token for token: LLaDA in every cache, Dream's uncached schedules."""

import json
from pathlib import Path

import pytest
import torch

import fdllm

DATA = Path(__file__).parent / "data"
ORDERS = {"entropy": "entropy", "maskgit_plus": "confidence", "topk_margin": "margin"}


def cases(name):
    return [pytest.param(case, id=case["id"]) for case in json.loads((DATA / f"{name}.json").read_text())["cases"]]


def schedules(name):
    return [
        p for p in cases(name) if p.values[0]["params"]["cache"] == "none" and p.values[0]["params"]["alg"] in ORDERS
    ]


@pytest.fixture(scope="module")
def llada():
    return fdllm.load(str(DATA / "tiny-llada"))


@pytest.fixture(scope="module")
def dream():
    return fdllm.load(str(DATA / "tiny-dream"))


def llada_policy(case):
    params = case["params"]
    match params["policy"]:
        case "fixed":
            return {"name": "top-k", "steps": params["steps"]}
        case "threshold":
            return {"name": "threshold", "threshold": params["threshold"]}
        case _:
            released = case["source"] == "later-release"
            return {"name": "factor", "factor": params["factor"], "as_released": released}


def agrees(decoder, case):
    """Tokens, forwards, what each computed and what each committed."""
    out = decoder.generate([case["prompt_ids"]], trace=True)
    assert out.tokens[0].tolist() == case["output_ids"]
    assert out.nfe == case["nfe_nonempty"]
    moves = [[move.computed[0], move.computed[-1] + 1, list(move.committed)] for move in out.trace]
    assert moves == [forward for forward in case["forwards"] if forward[2]]


@pytest.mark.parametrize("case", cases("tiny-llada"))
def test_llada(llada, case):
    params = case["params"]
    decoder = fdllm.compile(
        llada,
        cache=params["cache"],
        policy=llada_policy(case),
        max_new_tokens=params["gen_length"],
        block_length=params["block_length"],
        stop_at_eos=False,
    )
    agrees(decoder, case)


@pytest.mark.parametrize("case", schedules("tiny-dream"))
def test_dream_schedules(dream, case):
    params = case["params"]
    decoder = fdllm.compile(
        dream,
        policy={
            "name": "top-k",
            "steps": params["steps"],
            "spacing": "timesteps",
            "eps": params["eps"],
            "order": ORDERS[params["alg"]],
        },
        max_new_tokens=params["gen_length"],
        block_length=params["gen_length"],
        stop_at_eos=False,
    )
    agrees(decoder, case)


@pytest.mark.parametrize("name", ["tiny-llada", "tiny-dream"])
def test_forward_check(name):
    check = json.loads((DATA / f"{name}.json").read_text())["forward_check"]
    logits = fdllm.load(str(DATA / name)).logits(torch.tensor([check["input_ids"]]))[0]
    assert logits.argmax(-1).tolist() == check["argmax"]
    got = logits[check["positions"], : check["first_ids"]]
    torch.testing.assert_close(got, torch.tensor(check["logits"]), atol=1e-3, rtol=0)
