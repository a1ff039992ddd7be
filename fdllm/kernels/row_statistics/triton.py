"""Row statistics in Triton: logits are read once, a stretch of each row by a program of its own.

Candidates are those of the reference bit for bit at temperature 0, for logits without NaN. Samples
see the same uniform numbers; logarithm and exponential of a device are rounded its own way, so a
sample may differ where the two best noisy scores of a row lie within a few units in the last place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

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
def _row_partials(
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
class RowStatistics:
    """The reference's rule over the same values; see there."""

    draw: Greedy | Sample
    reads: tuple[str, ...]
    wanted: tuple[str, ...]

    def __call__(self, logits: Logits, *values: Tensor) -> tuple[Tensor, ...] | Tensor:
        """Compute from logits of any dtype and strides; see the reference."""
        launch = self.launch(logits, *values)
        launch.run()
        return finish(launch.arguments["partials"], self.wanted, len(logits))

    def launch(self, logits: Logits, *values: Tensor) -> Launch:
        """Prepare the kernel that writes the partials of every row."""
        batch, width, num_ids = logits.shape
        block = min(STRETCH, max(16, triton.next_power_of_2(num_ids)))
        arguments = {
            "logits": logits,
            "batch_stride": logits.stride(0),
            "slot_stride": logits.stride(1),
            "id_stride": logits.stride(2),
            "width": width,
            **spread(batch * width, num_ids, block, logits.device),
            **rule(self.draw, dict(zip(self.reads, values, strict=True)), self.wanted, num_ids),
            "BV": block,
        }
        title = f"row statistics {', '.join(self.wanted)}, {logits.dtype}, {num_ids} ids, {self.draw!r}"
        grid = (batch * width, arguments["num_stretches"])
        return Launch(title, _row_partials, grid, arguments, warps=max(1, block // 512))


def specimens() -> Iterator[Launch]:
    """Give launches to compile ahead of time: nothing but the usual pair, and everything, over long and short rows."""
    draws = {Greedy(Vocabulary(5, 600)): ("tokens",), Sample(Vocabulary(5, 600), 0.7): ("tokens", "noise")}
    for dtype, num_ids in product((torch.float32, torch.bfloat16, torch.float16), (126464, 628)):
        logits = torch.empty(1, 32, num_ids, dtype=dtype, device="meta")
        for (draw, reads), wanted in product(draws.items(), (USUAL, EVERY)):
            values = [torch.empty(1, 32, dtype=torch.int64, device="meta")] * len(reads)
            yield RowStatistics(draw, reads, wanted).launch(logits, *values)
