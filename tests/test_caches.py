"""The rule of each cache, slot by slot, against a plain reading of it."""

import pytest
import torch

import fdllm
from fdllm.testing import random_model


def computed(cache, *, prompt, pattern, block, windows):
    """What each forward of a run computes: (block, step, slots)."""
    model = random_model(pattern=pattern)
    decoder = fdllm.compile(
        model, cache=cache, policy="top-k", max_new_tokens=windows * block, block_length=block, stop_at_eos=False
    )
    moves = decoder.generate([list(range(1, prompt + 1))], trace=True).trace
    return [(move.block, move.step, move.window, list(move.computed)) for move in moves]


# prompts that fill the model's blocks of 4 exactly, leave a part of one, or are shorter than one
@pytest.mark.parametrize("prompt", [1, 2, 4, 7, 8])
@pytest.mark.parametrize("block", [2, 4])
def test_hierarchical(prompt, block):
    size, length = 4, prompt + 4 * block
    moves = computed("hierarchical", prompt=prompt, pattern="block-causal", block=block, windows=4)
    for number, step, window, slots in moves:
        start, end = prompt + window.start, prompt + window.stop
        if step:
            assert slots == list(range(start, end))
            continue
        own = range(start // size * size, min(start // size * size + size, length))
        begins = start == own.start
        before = 0 if number == 0 else own.start - size if begins else own.start
        assert slots == list(range(before, own.stop))


@pytest.mark.parametrize("cache", ["prefix", "dual", "refresh-interval", "block-causal", "hierarchical"])
@pytest.mark.parametrize("prompt", [1, 4, 7])
def test_no_slot_is_attended_to_before_it_was_ever_computed(cache, prompt):
    pattern = "block-causal" if cache in ("block-causal", "hierarchical") else "full"
    known: set[int] = set()
    for _, _, window, slots in computed(cache, prompt=prompt, pattern=pattern, block=2, windows=4):
        known |= set(slots)
        last = prompt + window.stop - 1
        seen = prompt + 8 if pattern == "full" else min((last // 4 + 1) * 4, prompt + 8)
        assert known >= set(range(seen))


@pytest.mark.parametrize("shift", [False, True])
def test_a_block_that_is_left_is_kept_as_it_is(shift):
    """With sub-blocks the K/V of finished blocks are those of their last tokens: the next block sees them exactly."""
    model = random_model(2, pattern="block-causal", shift=shift)
    how = {"policy": "top-k", "max_new_tokens": 12, "block_length": 2, "stop_at_eos": False}
    exact = fdllm.compile(model, cache="block-causal", **how).generate([[1, 2, 3, 4]], trace=True)
    kept = fdllm.compile(model, cache="hierarchical", **how).generate([[1, 2, 3, 4]], trace=True)
    # the first sub-block of each block is computed whole at its first step, over exact K/V of what came before
    compared = 0
    for block in range(0, 6, 2):
        before = 2 * block
        if torch.equal(exact.tokens[0, :before], kept.tokens[0, :before]):
            ours, theirs = ([m for m in out.trace if m.block == block and m.step == 0][0] for out in (kept, exact))
            compared += 1
            assert ours.candidates == theirs.candidates
            assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-12)
    assert compared >= 2, "the runs parted before a block was left, so this shows nothing"
