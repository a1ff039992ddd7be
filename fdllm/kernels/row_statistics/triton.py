"""Row statistics in Triton: logits are read once, a stretch of each row by a program of its own.

Candidates are those of the reference bit for bit at temperature 0, for logits without NaN. Samples
see the same uniform numbers; logarithm and exponential of a device are rounded its own way, so a
sample may differ where the two best noisy scores of a row lie within a few units in the last place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from fdllm.kernels.launch import Launch
from fdllm.kernels.partials.triton import EVERY, USUAL, finish, rule, spread, write_partials
from fdllm.sampling import Greedy, Sample, Vocabulary
from fdllm.types import Logits

STRETCH = 4096


@triton.jit
def row_partials_kernel(
    logits,
    batch_stride,
    slot_stride,
    id_stride,
    width,
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
    BV: tl.constexpr,
    SAMPLE: tl.constexpr,
    MARGIN: tl.constexpr,
    ENTROPY: tl.constexpr,
    CURRENT: tl.constexpr,
):
    """Write the partials of one row over BV ids; grid (R, S)."""
    row = tl.program_id(0) + tl.arange(0, 1)  # [1]
    stretch = tl.program_id(1)
    ids = stretch * BV + tl.arange(0, BV)
    start = (row // width).to(tl.int64) * batch_stride + (row % width).to(tl.int64) * slot_stride
    at = logits + start[:, None] + ids[None, :].to(tl.int64) * id_stride
    block = tl.load(at, mask=(ids < num_ids)[None, :], other=float("-inf")).to(tl.float32)  # [1, BV]
    write_partials(
        partials,
        field,
        row,
        num_rows,
        stretch,
        num_stretches,
        block,
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
class RowStatistics:
    """The reference's rule over the same values; see there."""

    draw: Greedy | Sample
    reads: tuple[str, ...]
    wanted: tuple[str, ...]

    def __call__(self, logits: Logits, *values: Tensor) -> tuple[Tensor, ...] | Tensor:
        """Compute from logits of any dtype and strides; see the reference."""
        return finish(self.partials(logits, *values), self.wanted, len(logits))

    def partials(self, logits: Logits, *values: Tensor, first: int = 0) -> Tensor:
        """Compute the partials of every row, float32[8 B*W S]; `first` is the id of the first column."""
        launch = self.launch(logits, *values, first=first)
        launch.run()
        found: Tensor = launch.arguments["partials"]
        return found

    def launch(self, logits: Logits, *values: Tensor, first: int = 0) -> Launch:
        """Prepare what `partials` runs."""
        batch, width, num_ids = logits.shape
        block = min(STRETCH, max(16, triton.next_power_of_2(num_ids)))
        arguments = {
            "logits": logits,
            "batch_stride": logits.stride(0),
            "slot_stride": logits.stride(1),
            "id_stride": logits.stride(2),
            "width": width,
            **spread(batch * width, num_ids, block, logits.device),
            **rule(self.draw, dict(zip(self.reads, values, strict=True)), self.wanted, first, num_ids),
            "BV": block,
        }
        grid = (batch * width, arguments["num_stretches"])
        return Launch(row_partials_kernel, grid, arguments, warps=max(1, block // 512))


def specimens() -> Iterator[Launch]:
    """Give launches to compile ahead of time: the usual pair of the likeliest ids, and everything of samples."""
    vocabulary = Vocabulary(mask_id=5, size=600)
    kinds: list[tuple[Greedy | Sample, tuple[str, ...], tuple[str, ...]]] = [
        (Greedy(vocabulary), (), USUAL),
        (Sample(vocabulary, 0.7), ("tokens", "noise"), EVERY),
    ]
    for dtype, num_ids in (
        (torch.float32, 126464),
        (torch.bfloat16, 126464),
        (torch.float16, 126464),
        (torch.bfloat16, 628),
    ):
        logits = torch.empty(1, 32, num_ids, dtype=dtype, device="meta")
        for draw, reads, wanted in kinds:
            values = [torch.empty(1, 32, dtype=torch.int64, device="meta")] * len(reads)
            yield RowStatistics(draw, reads, wanted).launch(logits, *values)
