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

from fdllm.kernels.head_statistics import HeadWeight
from fdllm.kernels.launch import Launch
from fdllm.kernels.partials.triton import EVERY, USUAL, finish, rule, spread, write_partials
from fdllm.sampling import Greedy, Sample, Vocabulary
from fdllm.types import Hidden

TILE = 128
_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _head_partials(
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
    noise,
    tokens,
    mask_id,
    num_legal,
    temperature,
    BR: tl.constexpr,
    BV: tl.constexpr,
    BD: tl.constexpr,
    DTYPE: tl.constexpr,
    CAP: tl.constexpr,
    SAMPLE: tl.constexpr,
    MARGIN: tl.constexpr,
    ENTROPY: tl.constexpr,
    CURRENT: tl.constexpr,
):
    row = tl.program_id(0) * BR + tl.arange(0, BR)
    stretch = tl.program_id(1)
    ids = stretch * BV + tl.arange(0, BV)
    across = tl.arange(0, BD)
    rows_in, ids_in = row < num_rows, ids < num_ids
    start = (row // width).to(tl.int64) * batch_stride + (row % width).to(tl.int64) * slot_stride
    at_hidden = hidden + start[:, None] + across[None, :] * hidden_stride  # [BR, BD]
    at_weight = weight + ids[None, :].to(tl.int64) * id_stride + across[:, None] * weight_stride  # [BD, BV]
    sums = tl.zeros((BR, BV), dtype=tl.float32)
    for done in range(0, depth, BD):
        left = across < depth - done
        h = tl.load(at_hidden, mask=rows_in[:, None] & left[None, :], other=0.0).to(DTYPE)
        w = tl.load(at_weight, mask=left[:, None] & ids_in[None, :], other=0.0).to(DTYPE)
        sums = tl.dot(h, w, sums, input_precision="ieee")
        at_hidden += BD * hidden_stride
        at_weight += BD * weight_stride
    if bias is not None:
        sums += tl.load(bias + ids, mask=ids_in, other=0.0).to(tl.float32)[None, :]
    logits = sums.to(DTYPE).to(tl.float32) * scale
    if CAP:
        # tanh by way of the exponential, which every device has
        logits = cap * (1.0 - 2.0 / (tl.exp(2.0 * logits / cap) + 1.0))
    logits = tl.where(ids_in[None, :], logits, float("-inf"))
    write_partials(
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
        launch = self.launch(hidden, *values)
        launch.run()
        return finish(launch.arguments["partials"], self.wanted, len(hidden))

    def launch(self, hidden: Hidden, *values: Tensor) -> Launch:
        """Prepare the kernel that writes the partials of every row and tile."""
        (batch, width, depth), weight = hidden.shape, self.head.weight
        assert weight.shape[1] == depth, f"hidden {tuple(hidden.shape)}, head {tuple(weight.shape)}"
        half = weight.dtype in _TYPES
        block = min(64, max(16, triton.next_power_of_2(batch * width)))
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
            **rule(self.draw, dict(zip(self.reads, values, strict=True)), self.wanted, len(weight)),
            "BR": block,
            "BV": TILE,
            "BD": 64 if half else 32,
            "DTYPE": _TYPES.get(weight.dtype, tl.float32),
            "CAP": self.head.cap is not None,
        }
        title = f"head statistics {', '.join(self.wanted)}, {weight.dtype}, {batch * width} rows, width {depth}"
        grid = (triton.cdiv(batch * width, block), arguments["num_stretches"])
        return Launch(title, _head_partials, grid, arguments, warps=8 if block > 16 else 4, stages=4 if half else 2)


def specimens() -> Iterator[Launch]:
    """Give launches to compile ahead of time: a window of LLaDA's head and a small one, the usual pair and everything."""
    draws = {Greedy(Vocabulary(5, 600)): ("tokens",), Sample(Vocabulary(5, 600), 0.7): ("tokens", "noise")}
    sizes = ((1, 4096, 126464), (32, 4096, 126464), (64, 67, 999))
    for dtype, (rows, depth, num_ids) in product((torch.float32, torch.bfloat16, torch.float16), sizes):
        hidden = torch.empty(1, rows, depth, dtype=dtype, device="meta")
        weight = torch.empty(num_ids, depth, dtype=dtype, device="meta")
        head = HeadWeight(weight) if rows == 1 else HeadWeight(weight, torch.empty(num_ids, device="meta"), 0.5, 30.0)
        for (draw, reads), wanted in product(draws.items(), (USUAL, EVERY)):
            values = [torch.empty(1, rows, dtype=torch.int64, device="meta")] * len(reads)
            yield HeadStatistics(head, draw, reads, wanted).launch(hidden, *values)
