"""Matrix products of tiles as every kernel takes them: float32 without TF32, and right under the interpreter too."""

import torch
import triton
import triton.language as tl

# the dtype sums are taken in, by what torch.promote_types makes of an input's and float32
REALS = {torch.float32: tl.float32, torch.float64: tl.float64}


@triton.jit
def dot(a, b, acc, REAL: tl.constexpr):
    """Add the product of two tiles to `acc`, [M, K] x [K, N] -> [M, N] in dtype REAL."""
    if INTERPRETED:
        # it would multiply bfloat16 as the integers it keeps them in
        a = a.to(REAL)
        b = b.to(REAL)
    return tl.dot(a, b, acc, input_precision="ieee", out_dtype=REAL)


# decided when triton was imported: TRITON_INTERPRET=1 makes every kernel a Python function
INTERPRETED = tl.constexpr(not isinstance(dot, triton.JITFunction))
