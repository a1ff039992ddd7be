"""Partials in Triton: what kernels call for a block of logits in registers, and the kernel that finishes rows.

The torch forms are in `reference.py`. Counter-based noise is the one of `fdllm/noise.py`, bit for
bit: its 32-bit words are uint32 here.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fdllm.kernels.launch import Launch
from fdllm.kernels.partials import Partials
from fdllm.sampling import NOBODY, Greedy, Sample

_NOBODY = tl.constexpr(NOBODY)
_NOTHING = tl.constexpr(float("-inf"))


@triton.jit
def _mix(bits):
    bits = (bits ^ (bits >> 16)) * 0x7FEB352D
    bits = (bits ^ (bits >> 15)) * 0x846CA68B
    return bits ^ (bits >> 16)


@triton.jit
def _gumbel(keys, ids):
    # keys: uint32[BR 1], ids: [1 BV]
    bits = _mix(_mix(keys + ids.to(tl.uint32) * 0x9E3779B9) ^ keys)
    uniform = ((bits >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07
    return -tl.log(-tl.log(uniform))


@triton.jit
def write_partials(
    partials,
    field,
    row,
    num_rows,
    stretch,
    num_stretches,
    logits,
    ids,
    noise,
    tokens,
    mask_id,
    num_legal,
    temperature,
    SAMPLE: tl.constexpr,
    MARGIN: tl.constexpr,
    ENTROPY: tl.constexpr,
    CURRENT: tl.constexpr,
):
    """Write the partials of a block of logits.

    Args:
        partials: pointer to float32[8 R S], as `Partials`; `field` elements from field to field.
        field: R * S.
        row: rows of the block, [BR]; those from `num_rows` (R) on are not written.
        num_rows: R.
        stretch: which of the `num_stretches` (S) the block is.
        num_stretches: S.
        logits: float32[BR BV], -inf where there is no such id.
        ids: int32[BV].
        noise: pointer to a key for each row, int64[R]; read with SAMPLE.
        tokens: pointer to an id for each row, int64[R]; read with CURRENT.
        mask_id: never a candidate.
        num_legal: ids from here on are never candidates; none are beyond those there are.
        temperature: of the sample.
        SAMPLE: draw by noisy scores.
        MARGIN: write `second`.
        ENTROPY: write `tilt`.
        CURRENT: write `current`.

    """
    inside = row < num_rows
    top = tl.max(logits, axis=1)  # [BR]
    # where every id is at -inf nothing is added up
    logs = logits - tl.where(top == _NOTHING, 0.0, top)[:, None]  # [BR, BV]
    weights = tl.exp(logs)
    legal = ((ids < num_legal) & (ids != mask_id))[None, :]
    scores = logits
    if SAMPLE:
        keys = tl.load(noise + row, mask=inside, other=0).to(tl.uint32)
        scores = tl.div_rn(logits, tl.zeros_like(logits) + temperature) + _gumbel(keys[:, None], ids[None, :])
    scores = tl.where(legal, scores, _NOTHING)
    best = tl.max(scores, axis=1)
    candidate = tl.min(tl.where(legal & (scores == best[:, None]), ids[None, :], _NOBODY), axis=1)
    at = partials + row.to(tl.int64) * num_stretches + stretch
    tl.store(at, top, mask=inside)
    at += field
    tl.store(at, tl.sum(weights, axis=1), mask=inside)
    at += field
    tl.store(at, best, mask=inside)
    at += field
    tl.store(at, candidate.to(tl.float32), mask=inside)
    at += field
    if SAMPLE:
        best = tl.max(tl.where(ids[None, :] == candidate[:, None], logits, _NOTHING), axis=1)
    tl.store(at, best, mask=inside)
    at += field
    if MARGIN:
        first = tl.min(tl.where(logits == top[:, None], ids[None, :], _NOBODY), axis=1)
        others = tl.where(ids[None, :] == first[:, None], _NOTHING, logits)
        tl.store(at, tl.max(others, axis=1), mask=inside)
    at += field
    if ENTROPY:
        tl.store(at, tl.sum(weights * tl.where(weights > 0, logs, 0.0), axis=1), mask=inside)
    at += field
    if CURRENT:
        token = tl.load(tokens + row, mask=inside, other=0)
        tl.store(at, tl.max(tl.where(ids[None, :] == token[:, None], logits, _NOTHING), axis=1), mask=inside)


@triton.jit
def finish_kernel(
    partials,
    field,
    candidates,
    statistics,
    num_rows,
    num_stretches,
    BS: tl.constexpr,
    CONFIDENCE: tl.constexpr,
    MARGIN: tl.constexpr,
    ENTROPY: tl.constexpr,
    CURRENT: tl.constexpr,
):
    """Combine all stretches of one row and write its statistics; grid (R)."""
    row = tl.program_id(0)
    stretch = tl.arange(0, BS)
    there = stretch < num_stretches
    at = partials + row.to(tl.int64) * num_stretches + stretch  # [BS]
    tops = tl.load(at, mask=there, other=_NOTHING)
    top = tl.max(tops, axis=0)
    lag = tl.where(tops == _NOTHING, 0.0, tops - top)
    at += field
    totals = tl.load(at, mask=there, other=0.0)
    total = tl.sum(totals * tl.exp(lag), axis=0)
    at += field
    bests = tl.load(at, mask=there, other=_NOTHING)
    at += field
    ids = tl.load(at, mask=there, other=_NOBODY)
    candidate = tl.min(tl.where(bests == tl.max(bests, axis=0), ids, _NOBODY), axis=0)
    tl.store(candidates + row, candidate.to(tl.int64))
    at += field
    if CONFIDENCE:
        drawn = tl.load(at, mask=there, other=_NOTHING)
        score = tl.max(tl.where(ids == candidate, drawn, _NOTHING), axis=0)
        tl.store(statistics + row, tl.exp(score - top) / total)
    at += field
    statistics += num_rows
    if MARGIN:
        first = tl.min(tl.where(tops == top, stretch, BS), axis=0)
        seconds = tl.load(at, mask=there, other=_NOTHING)
        second = tl.max(tl.maximum(seconds, tl.where(stretch == first, _NOTHING, tops)), axis=0)
        tl.store(statistics + row, (1.0 - tl.exp(second - top)) / total)
    at += field
    statistics += num_rows
    if ENTROPY:
        tilts = tl.load(at, mask=there, other=0.0)
        tilt = tl.sum((tilts + lag * totals) * tl.exp(lag), axis=0)
        tl.store(statistics + row, tl.log(total) - tilt / total)
    at += field
    statistics += num_rows
    if CURRENT:
        current = tl.max(tl.load(at, mask=there, other=_NOTHING), axis=0)
        tl.store(statistics + row, tl.exp(current - top) / total)


USUAL = ("candidate", "confidence")
_FLOATS = ("confidence", "margin", "entropy", "current_probability")
EVERY = ("candidate", *_FLOATS)


def spread(num_rows: int, num_ids: int, block: int, device: torch.device) -> dict[str, Any]:
    """Allocate the partials of rows whose ids are cut into blocks; give the arguments that say how."""
    num_stretches = triton.cdiv(num_ids, block)
    partials = torch.empty(len(Partials._fields), num_rows, num_stretches, device=device)
    sizes = {"num_rows": num_rows, "num_stretches": num_stretches, "num_ids": num_ids}
    return {"partials": partials, "field": num_rows * num_stretches, **sizes}


def rule(
    draw: Greedy | Sample, also: dict[str, Tensor], wanted: Sequence[str], first: int, num_ids: int
) -> dict[str, Any]:
    """Give the arguments of `write_partials` that say what is drawn and wanted.

    Args:
        draw: how the candidate is drawn.
        also: `noise` and `tokens` where they are read, int64[B W].
        wanted: names of statistics.
        first: the lowest id.
        num_ids: ids there are from `first` on.

    """
    size, stop = draw.vocabulary.size, first + num_ids
    # float32 holds candidates exactly up to here
    assert stop <= NOBODY, f"{stop} ids"
    return {
        "noise": also["noise"].reshape(-1) if isinstance(draw, Sample) else None,
        "tokens": also["tokens"].reshape(-1) if "current_probability" in wanted else None,
        "first": first,
        "mask_id": -1 if draw.vocabulary.mask_id is None else draw.vocabulary.mask_id,
        "num_legal": stop if size is None else min(size, stop),
        "temperature": float(draw.temperature) if isinstance(draw, Sample) else 1.0,
        "SAMPLE": isinstance(draw, Sample),
        "MARGIN": "margin" in wanted,
        "ENTROPY": "entropy" in wanted,
        "CURRENT": "current_probability" in wanted,
    }


def finishing(partials: Tensor, candidates: Tensor, statistics: Tensor, wanted: Sequence[str]) -> Launch:
    """Prepare the kernel that combines all stretches of each row, float32[8 R S], and finishes its statistics."""
    _, num_rows, num_stretches = partials.shape
    block = triton.next_power_of_2(num_stretches)
    return Launch(
        finish_kernel,
        (num_rows,),
        {
            "partials": partials,
            "field": partials.stride(0),
            "candidates": candidates,
            "statistics": statistics,
            "num_rows": num_rows,
            "num_stretches": num_stretches,
            "BS": block,
            "CONFIDENCE": "confidence" in wanted,
            "MARGIN": "margin" in wanted,
            "ENTROPY": "entropy" in wanted,
            "CURRENT": "current_probability" in wanted,
        },
        warps=max(1, min(8, block // 128)),
    )


def finish(partials: Tensor, wanted: Sequence[str], batch: int) -> tuple[Tensor, ...] | Tensor:
    """Give the statistics of rows from all their partials, float32[8 B*W S]: one tensor [B W] per name.

    The same function serves tiles of a kernel and shards of a vocabulary, whatever their sizes.
    """
    num_rows = partials.shape[1]
    candidates = torch.empty(num_rows, dtype=torch.int64, device=partials.device)
    statistics = torch.empty(len(_FLOATS), num_rows, device=partials.device)
    finishing(partials, candidates, statistics, wanted).run()
    every = {"candidate": candidates, **dict(zip(_FLOATS, statistics, strict=True))}
    found = tuple(every[name].view(batch, -1) for name in wanted)
    return found if len(found) > 1 else found[0]


def specimens() -> Iterator[Launch]:
    """Give launches to compile ahead of time: few stretches (a row's tiles) and many (a head's)."""
    for num_stretches in (8, 31, 988):
        partials = torch.empty(len(Partials._fields), 32, num_stretches, device="meta")
        statistics = torch.empty(len(_FLOATS), 32, device="meta")
        yield finishing(partials, torch.empty(32, dtype=torch.int64, device="meta"), statistics, EVERY)
