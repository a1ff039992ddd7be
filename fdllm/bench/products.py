"""Matrix products of a forward by torch, by oneDNN, and by oneDNN with repacked weights; attention head by head.

    python -m fdllm.bench.products [--threads 1] [--repeats 20]

CPU time of the process in milliseconds, the least of the repeats, and GFLOP/s of it. What
docs/performance.md and docs/log.md say of products and of attention comes from here.
"""

import argparse
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fdllm.bench.forwards import milliseconds, show
from fdllm.kernels.linear import OneDnnLinear


def multiplied(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply by oneDNN, x @ weight.T."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")  # type: ignore[no-any-return]


def head_by_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with products of one head each, [H R D], [H N D] -> [R H D]."""
    out = q.new_empty(q.shape[1], q.shape[0], q.shape[2])
    for head in range(len(q)):
        scores = multiplied(q[head] * q.shape[-1] ** -0.5, k[head])
        out[:, head] = multiplied(scores.softmax(-1), v[head].T.contiguous())
    return out


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for rows in (32, 256, 768):
        for wide, out in ((512, 512), (512, 1536), (1536, 512)):
            layer, x = nn.Linear(wide, out, bias=False), torch.randn(1, rows, wide)
            repacked = torch.ops.mkldnn._reorder_linear_weight(layer.weight, None)
            found = {
                "torch": milliseconds(partial(layer, x), args.repeats),
                "oneDNN": milliseconds(partial(OneDnnLinear(layer), x), args.repeats),
                "repacked": milliseconds(partial(multiplied, x, repacked), args.repeats),
            }
            rates = {f"{name} GFLOP/s": 2e-6 * rows * wide * out / ms for name, ms in found.items()}
            show(f"{rows} rows, {wide} to {out}", {**found, **rates})
    for rows, keys in ((32, 768), (256, 768), (768, 768), (1536, 1536)):
        q, k, v = (torch.randn(8, count, 64) for count in (rows, keys, keys))
        found = {
            "sdpa": milliseconds(partial(scaled_dot_product_attention, q[None], k[None], v[None]), args.repeats),
            "head by head": milliseconds(partial(head_by_head, q, k, v), args.repeats),
        }
        show(f"{rows} queries, {keys} keys", found)


if __name__ == "__main__":
    main()
