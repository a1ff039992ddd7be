"""The benchmark against published code: real processes that speak its JSON lines, and what it refuses."""

import os
import random
import subprocess
import sys

import pytest

import fdllm
from fdllm.bench.published import checkpoint, worker
from fdllm.bench.published.__main__ import end_in_first_quarter
from fdllm.bench.published.compare import UnequalTokensError, check_equal, compare, visible
from fdllm.bench.published.peer import Peer, Task
from fdllm.external import ExternalError

OURS = [sys.executable, "-m", "fdllm.bench.published.ours"]
PROMPT = tuple(random.Random(0).randrange(10, 100) for _ in range(5))


@pytest.fixture(scope="module")
def sides(data):
    """Both sides are fdllm, on a checkpoint in the published layout."""
    with Peer("published", OURS, os.environ) as one, Peer("fdllm", OURS, os.environ) as other:
        for peer in (one, other):
            assert set(peer.load(str(data / "tiny-llada"), 1)) == {"torch", "transformers"}
        yield one, other


def test_equal_tokens_give_a_speed_up(sides, data):
    task = Task(PROMPT, 16, 8, "dual", {"steps": 4})
    found = compare(*sides, task, pairs=3)
    assert sorted(found.speed_ups)[1] == round(found.speed_up, 4) > 0
    assert (found.published_nfe, found.our_nfe, found.visible_tokens) == (4, 4, 16)
    decoder = fdllm.compile(
        fdllm.load(str(data / "tiny-llada")),
        cache="dual",
        policy={"name": "top-k", "steps": 4},
        max_new_tokens=16,
        block_length=8,
        stop_at_eos=False,
    )
    assert sides[0].decode(task).tokens == decoder.generate([list(PROMPT)]).tokens[0].tolist()


def test_unequal_tokens_give_none(sides, data):
    published, ours = sides
    task = Task(PROMPT, 16, 8, "none", {"threshold": 0.9})
    eos_id = end_in_first_quarter(published.decode(task).tokens)
    ours.load(str(data / "tiny-llada"), 1, eos_id)
    try:
        stopped = compare(published, ours, task, pairs=1, eos_id=eos_id)
        assert stopped.visible_tokens < 4 and stopped.our_nfe < stopped.published_nfe
        with pytest.raises(UnequalTokensError, match=r"differ at .* of 16 published .*no speed-up is given"):
            compare(published, ours, task, pairs=1)
    finally:
        ours.load(str(data / "tiny-llada"), 1)


def test_a_side_that_fails_says_why(sides):
    with pytest.raises(ExternalError, match="published: cannot load: CheckpointError: .*nowhere"):
        sides[0].load("./nowhere", 1)
    with pytest.raises(ExternalError, match="fdllm: cannot decode: .*no cache named 'daul'; did you mean 'dual'"):
        sides[1].decode(Task(PROMPT, 16, 8, "daul", {"steps": 4}))
    with (
        Peer("published", [sys.executable, "-c", "raise SystemExit(3)"], os.environ) as gone,
        pytest.raises(ExternalError, match="published: the process ended with code 3 when asked to load"),
    ):
        gone.load("anything", 1)


def test_where_tokens_differ():
    check_equal([1, 2], [1, 2])
    with pytest.raises(UnequalTokensError, match=r"1 of 3 published and 3 of our .*2: 3 and 4\)"):
        check_equal([1, 2, 3], [1, 2, 4])
    with pytest.raises(UnequalTokensError, match="0 of 2 published and 1 of our visible slots; no speed-up"):
        check_equal([1, 2], [1])


def test_the_end_is_the_id_that_comes_last_in_the_first_quarter():
    assert end_in_first_quarter([5, 6, 5, 6, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]) == 6
    assert visible([5, 6, 7], 6) == [5] and visible([5, 6], None) == [5, 6] and visible([5], 9) == [5]


def test_the_checkpoint_loads_by_the_published_names(tmp_path, monkeypatch):
    for name, size in {"WIDTH": 16, "LAYERS": 2, "HEADS": 2, "MLP": 24, "CONTEXT": 64}.items():
        monkeypatch.setattr(checkpoint, name, size)
    model = fdllm.load(str(checkpoint.write(tmp_path, 200, seed=3)))
    assert (model.spec.mask_id, model.spec.vocab_size, model.spec.context) == (72, 200, 64)
    assert checkpoint.mask_id(126_464) == 126_336
    assert (tmp_path / "config.json").stat().st_size and model.logits(model_ids()).argmax(-1).ne(72).all()


def model_ids():
    import torch

    return torch.arange(10, 40)[None]


def test_a_folder_without_the_code_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"wanted a checkout of NVlabs/Fast-dLLM .*found none"):
        worker.code_folder(tmp_path)
    ran = subprocess.run([sys.executable, worker.__file__, tmp_path], capture_output=True, text=True)
    assert ran.returncode == 1 and "wanted a checkout" in ran.stderr
    code = tmp_path / "v1" / "llada"
    (code / "model").mkdir(parents=True)
    (code / "generate.py").touch()
    (code / "model" / "modeling_llada.py").touch()
    assert worker.code_folder(tmp_path) == code == worker.code_folder(code)
