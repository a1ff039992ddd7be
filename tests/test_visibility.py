"""Who sees whom, in ranges: equal to the rule said pair by pair."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fdllm.caches.base import Rows
from fdllm.models.feed import feed
from fdllm.models.spec import Spec
from fdllm.testing import many


@st.composite
def plans(draw):
    """Lengths of rows, and what each shows: all, a range, a stepped one, single slots; None for a row that waits."""
    lengths = draw(st.lists(st.integers(2, 9), min_size=1, max_size=3))
    found = []
    for length in lengths:
        begin = draw(st.integers(0, length - 1))
        slots = st.lists(st.integers(0, 9), unique=True).map(lambda some: tuple(sorted(some)))
        spans = st.builds(range, st.integers(0, 4), st.integers(0, 12), st.integers(1, 2))
        shown = draw(st.none() | slots | spans)
        found.append(None if draw(st.integers(0, 3)) == 0 else Rows(range(begin, length), shown))
    return lengths, found


@many
@given(plans(), st.sampled_from(["full", "block-causal", "causal-prefix"]), st.integers(1, 4))
def test_the_mask_of_a_feed_pair_by_pair(drawn, pattern, block):
    lengths, rows = drawn
    spec = Spec(mask_id=1, pattern=pattern, block_length=block)
    made = feed(spec, rows, [range(length - 1, length) for length in lengths], lengths).to(torch.device("cpu"))
    batch, queries = made.slots.shape

    def sees(row: int, query: int, key: int) -> bool:
        plan = rows[row]
        shown = plan is None or plan.visible is None or key in plan.visible
        slot, start = int(made.slots[row, query]), lengths[row] - 1
        earlier = {
            "full": True,
            "block-causal": key // block <= slot // block,
            "causal-prefix": key <= (slot if slot < start else start),  # the window is the last slot of the row
        }
        return key < lengths[row] and shown and earlier[pattern]

    expected = [[[sees(b, r, n) for n in range(max(lengths))] for r in range(queries)] for b in range(batch)]
    wanted = torch.tensor(expected).reshape(batch, queries, max(lengths))
    if made.visible is None:
        assert wanted.all()
    else:
        assert torch.equal(made.visible.mask.expand(batch, 1, queries, -1)[:, 0], wanted)
        assert made.visible.mask is made.visible.mask
        assert made.visible.starts.dtype == made.visible.ends.dtype == torch.int32
