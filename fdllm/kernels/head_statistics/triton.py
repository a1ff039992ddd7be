"""Head statistics in Triton: a program multiplies rows with a tile of the head and keeps eight numbers of each.

Products are summed in float32 and rounded to the dtype of the head, as the logits it would have
written; then everything is as in `row_statistics`. Candidates are those of the reference unless
the order of that sum decides between the two best scores of a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

from fdllm.kernels.dot import dot
from fdllm.kernels.head_statistics import HeadWeight
from fdllm.kernels.launch import Launch
from fdllm.kernels.partials.triton import EVERY, USUAL, finish, rule, spread, write_partials
from fdllm.sampling import Greedy, Sample, Vocabulary
from fdllm.types import Hidden

TILE = 128
_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _as_written(sums, DTYPE: tl.constexpr):
    """Round float32 to the nearest number of DTYPE, ties to even."""
    if DTYPE == tl.bfloat16:  # noqa: SIM300 - a constant on the left is no tl.constexpr
        # in integers, for the interpreter's cast cuts the bits off
        bits = sums.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return bits.to(tl.float32, bitcast=True)
    return sums.to(DTYPE).to(tl.float32)


@triton.jit
def head_partials_kernel(
    hidden,
    batch_stride,
    slot_stride,
    hidden_stride,
    width,
    weight,
    id_stride,
    weight_stride,
    bias,
    depth,
    scale,
    cap,
    partials,
    field,
    num_rows,
    num_stretches,
    num_ids,
    first,
    noise,
    tokens,
    mask_id,
    num_legal,
    temperature,
    BR: tl.constexpr,
    BV: tl.constexpr,
    BD: tl.constexpr,
    EVEN: tl.constexpr,
    DTYPE: tl.constexpr,
    CAP: tl.constexpr,
    SAMPLE: tl.constexpr,
    MARGIN: tl.constexpr,
    ENTROPY: tl.constexpr,
    CURRENT: tl.constexpr,
):
    """Write the partials of BR rows over BV ids, of the products of hidden states and head; grid (rows / BR, S)."""
    row = tl.program_id(0) * BR + tl.arange(0, BR)
    stretch = tl.program_id(1)
    ids = stretch * BV + tl.arange(0, BV)
    across = tl.arange(0, BD)
    # rows and ids beyond the last read the last; what comes of them is dropped
    held, held_ids = tl.minimum(row, num_rows - 1), tl.minimum(ids, num_ids - 1)
    start = (held // width).to(tl.int64) * batch_stride + (held % width).to(tl.int64) * slot_stride
    at_hidden = hidden + start[:, None] + across[None, :] * hidden_stride  # [BR, BD]
    at_weight = weight + held_ids[None, :].to(tl.int64) * id_stride + across[:, None] * weight_stride  # [BD, BV]
    sums = tl.zeros((BR, BV), dtype=tl.float32)
    for done in range(0, depth, BD):
        if EVEN:
            h = tl.load(at_hidden)
            w = tl.load(at_weight)
        else:
            h = tl.load(at_hidden, mask=(across < depth - done)[None, :], other=0.0)
            w = tl.load(at_weight, mask=(across < depth - done)[:, None], other=0.0)
        sums = dot(h.to(DTYPE), w.to(DTYPE), sums, tl.float32)
        at_hidden += BD * hidden_stride
        at_weight += BD * weight_stride
    if bias is not None:
        sums += tl.load(bias + held_ids).to(tl.float32)[None, :]
    logits = _as_written(sums, DTYPE) * scale
    if CAP:
        # tanh by way of the exponential, which every device has
        logits = cap * (1.0 - 2.0 / (tl.exp(2.0 * logits / cap) + 1.0))
    logits = tl.where((ids < num_ids)[None, :], logits, float("-inf"))
    write_partials(
        partials,
        field,
        row,
        num_rows,
        stretch,
        num_stretches,
        logits,
        first + ids,
        noise,
        tokens,
        mask_id,
        num_legal,
        temperature,
        SAMPLE,
        MARGIN,
        ENTROPY,
        CURRENT,
    )


@dataclass(frozen=True)
class HeadStatistics:
    """The reference's rule over the same values; see there."""

    head: HeadWeight
    draw: Greedy | Sample
    reads: tuple[str, ...]
    wanted: tuple[str, ...]

    def __call__(self, hidden: Hidden, *values: Tensor) -> tuple[Tensor, ...] | Tensor:
        """Compute from hidden states of any strides, in the dtype of the head; see the reference."""
        return finish(self.partials(hidden, *values), self.wanted, len(hidden))

    def partials(self, hidden: Hidden, *values: Tensor, first: int = 0) -> Tensor:
        """Compute the partials of every row, float32[8 B*W S]; `first` is the id of the head's first row."""
        launch = self.launch(hidden, *values, first=first)
        launch.run()
        found: Tensor = launch.arguments["partials"]
        return found

    def launch(self, hidden: Hidden, *values: Tensor, first: int = 0) -> Launch:
        """Prepare what `partials` runs."""
        (batch, width, depth), weight = hidden.shape, self.head.weight
        assert weight.shape[1] == depth, f"hidden {tuple(hidden.shape)}, head {tuple(weight.shape)}"
        half = weight.dtype in _TYPES
        # more float32 rows do not fit in registers
        block_depth = 64 if half else 32
        # 64 rows of half precision are one instruction of a tensor core; the head is read once for as many
        block = 64 if half and batch * width > 16 else 16
        arguments = {
            "hidden": hidden,
            "batch_stride": hidden.stride(0),
            "slot_stride": hidden.stride(1),
            "hidden_stride": hidden.stride(2),
            "width": width,
            "weight": weight,
            "id_stride": weight.stride(0),
            "weight_stride": weight.stride(1),
            "bias": self.head.bias,
            "depth": depth,
            "scale": float(self.head.scale),
            "cap": float(self.head.cap or 0.0),
            **spread(batch * width, len(weight), TILE, hidden.device),
            **rule(self.draw, dict(zip(self.reads, values, strict=True)), self.wanted, first, len(weight)),
            "BR": block,
            "BV": TILE,
            "BD": block_depth,
            "EVEN": depth % block_depth == 0,
            "DTYPE": _TYPES.get(weight.dtype, tl.float32),
            "CAP": self.head.cap is not None,
        }
        grid = (triton.cdiv(batch * width, block), arguments["num_stretches"])
        return Launch(head_partials_kernel, grid, arguments, warps=8, stages=4 if half else 2)


def specimens() -> Iterator[Launch]:
    """Give launches to compile ahead of time: LLaDA's head on one row and on a window; everything of an odd one."""
    vocabulary = Vocabulary(mask_id=5, size=600)
    kinds: list[tuple[tuple[int, int, int], Greedy | Sample, tuple[str, ...], tuple[str, ...]]] = [
        ((1, 4096, 126464), Greedy(vocabulary), (), USUAL),
        ((32, 4096, 126464), Greedy(vocabulary), (), USUAL),
        ((64, 4096, 126464), Sample(vocabulary, 0.7), ("tokens", "noise"), EVERY),
        ((70, 67, 999), Sample(vocabulary, 0.7), ("tokens", "noise"), EVERY),
    ]
    for dtype, ((rows, depth, num_ids), draw, reads, wanted) in product(
        (torch.float32, torch.bfloat16, torch.float16), kinds
    ):
        hidden = torch.empty(1, rows, depth, dtype=dtype, device="meta")
        weight = torch.empty(num_ids, depth, dtype=dtype, device="meta")
        bias = torch.empty(num_ids, dtype=dtype, device="meta")
        head = HeadWeight(weight, bias, 0.5, 30.0) if depth == 67 else HeadWeight(weight)
        values = [torch.empty(1, rows, dtype=torch.int64, device="meta")] * len(reads)
        yield HeadStatistics(head, draw, reads, wanted).launch(hidden, *values)
