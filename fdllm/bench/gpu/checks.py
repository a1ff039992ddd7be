"""What must hold on a device before anything is timed there. `tests/gpu` runs the same functions.

Each check takes the device and raises AssertionError with a sentence that says what differs.
"""

import copy
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from fdllm.caches.base import CachePolicy, Rows
from fdllm.compiling import compile as compile_decoder
from fdllm.kernels.head_statistics import HeadWeight
from fdllm.kernels.head_statistics import triton as head_statistics
from fdllm.kernels.row_statistics import reference as plain_statistics
from fdllm.kernels.row_statistics import triton as row_statistics
from fdllm.kernels.store_kv import reference as plain_store_kv
from fdllm.kernels.store_kv import triton as store_kv_kernel
from fdllm.models.backbone import BackboneDenoiser
from fdllm.models.denoiser import Denoiser
from fdllm.models.feed import feed
from fdllm.registry import load, names
from fdllm.sampling import Greedy, Vocabulary
from fdllm.testing import random_model
from fdllm.testing.attention import errors
from fdllm.visibility import Visibility

Device = torch.device
PROMPTS = [[1, 2, 3], [4, 5], [6, 7, 8, 9, 10]]
WANTED = ("candidate", "confidence", "margin", "entropy")


def executions(device: Device) -> tuple[str, ...]:
    """Name those that run on a device and keep to its arithmetic."""
    return ("eager", "cudagraph") if device.type == "cuda" else ("eager", "static")


def attention(device: Device) -> None:
    """Compare the attention kernel with float64: windows and long ones, ragged, block-causal and chosen keys."""
    from fdllm.kernels.attention.triton import attend

    dtypes, shapes = (torch.float32, torch.bfloat16, torch.float16), product((1, 9), (33,), ((8, 2),), (64,))
    if device.type == "cuda":
        shapes = product((1, 32, 200), (33, 1100), ((4, 4), (8, 2)), (64, 128))
    for dtype, (num_rows, num_keys, heads, width) in product(dtypes, shapes):
        noise = torch.Generator().manual_seed(num_rows)
        q = torch.randn(2, heads[0], num_rows, width, generator=noise).to(device, dtype)
        k, v = torch.randn(2, 2, heads[1], num_keys + 1, width, generator=noise).to(device, dtype)[..., :num_keys, :]
        for form, visible in _visibilities(2, num_rows, num_keys, device).items():
            error, allowed = errors(attend(q, k, v, visible, width**-0.5), q, k, v, visible)
            case = f"{dtype}, {num_rows} rows, {num_keys} keys, {heads} heads of {width}, {form}"
            assert error <= allowed, f"attention: {error:.2e} off, {allowed:.2e} allowed: {case}"


def _visibilities(batch: int, rows: int, keys: int, device: Device) -> dict[str, Visibility | None]:
    zeros = torch.zeros(batch, 1, dtype=torch.int32)
    lengths = torch.tensor([[keys - 3 * i] for i in range(batch)], dtype=torch.int32)
    blocks = ((torch.arange(rows, dtype=torch.int32) // 4 + 1) * 4).expand(batch, -1).minimum(lengths)
    some = (torch.arange(keys) % 3 > 0).expand(batch, -1).contiguous()
    made = {
        "ragged": Visibility(zeros, lengths, keys),
        "blocks": Visibility(zeros, blocks, keys),
        "chosen": Visibility(zeros, lengths, keys, some),
    }
    return {"all": None, **{form: each.to(device) for form, each in made.items()}}


def row_stats(device: Device) -> None:
    """Compare row statistics with the reference: candidates bit for bit, the others within its own error."""
    vocabulary = Vocabulary(mask_id=5, size=None)
    for dtype, size in product((torch.float32, torch.bfloat16), (999, 32_000) if device.type == "cuda" else (300,)):
        logits = 4 * torch.randn(2, 3, size, generator=torch.Generator().manual_seed(size)).to(device, dtype)
        kernel = row_statistics.RowStatistics(Greedy(vocabulary), (), WANTED)(logits)
        plain = plain_statistics.RowStatistics(Greedy(vocabulary), (), WANTED)(logits)
        assert torch.equal(kernel[0], plain[0]), f"row_statistics: candidates differ, {dtype}, {size} ids"
        slack = 16 * torch.finfo(torch.float32).eps * torch.tensor(size).log()
        for name, got, known in zip(WANTED[1:], kernel[1:], plain[1:], strict=True):
            error = (got - known).abs().max()
            assert error <= slack * known.abs().max().clamp(min=1), f"row_statistics: {name} is {error:.2e} off"


def head_stats(device: Device) -> None:
    """Compare head statistics with float64 logits: the candidate is the best up to rounding, its share as well."""
    size, depth = (32_000, 512) if device.type == "cuda" else (300, 64)
    noise = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 3, depth, generator=noise)
    weight = torch.randn(size, depth, generator=noise) * 4 * depth**-0.5
    for dtype in (torch.float32, torch.bfloat16):
        h, w = hidden.to(device, dtype), weight.to(device, dtype)
        draw = Greedy(Vocabulary(mask_id=None, size=None))
        kernel = head_statistics.HeadStatistics(HeadWeight(w), draw, (), ("candidate", "confidence"))(h)
        candidate, confidence = kernel
        exact = h.double() @ w.double().T
        # a sum in any order, then one rounding to the dtype, as a linear layer gives it
        slack = 4 * float(((h @ w.T).double() - exact).abs().max()) + 1e-6
        best = exact.gather(-1, candidate.unsqueeze(-1)).squeeze(-1)
        assert (exact.amax(-1) - best).max() <= slack, f"head_statistics: a candidate is not the best, {dtype}"
        share = exact.softmax(-1).gather(-1, candidate.unsqueeze(-1)).squeeze(-1)
        assert (confidence - share).abs().max() <= slack, f"head_statistics: confidence is off, {dtype}"


def store_kv(device: Device) -> None:
    """Compare rotation and write with plain torch, within one rounding."""
    for dtype, (heads, groups, width) in product((torch.float32, torch.bfloat16), ((8, 8, 128), (6, 2, 64))):
        noise = torch.Generator().manual_seed(width)
        q, k, v = (torch.randn(2, 5, n, width, generator=noise).transpose(1, 2) for n in (heads, groups, groups))
        angles = torch.rand(2, 5, width, generator=noise) * 100
        q, k, v, cos, sin = (x.to(device, dtype) for x in (q, k, v, angles.cos(), angles.sin()))
        slots = torch.stack([torch.randperm(9, generator=noise)[:5] for _ in range(2)]).to(device)
        keys, values, plain_keys, plain_values = torch.zeros(4, 2, groups, 9, width, dtype=dtype, device=device)
        rotated = store_kv_kernel.store_kv(q, k, v, cos, sin, slots, keys, values)
        plain_rotated = plain_store_kv.store_kv(q, k, v, cos, sin, slots, plain_keys, plain_values)
        for got, plain in ((rotated, plain_rotated), (keys, plain_keys), (values, plain_values)):
            error = (got - plain).abs().max()
            assert error <= 4 * torch.finfo(dtype).eps * plain.abs().max(), f"store_kv: {error:.2e} off, {dtype}"


def storing(device: Device) -> None:
    """Compare what forwards store and predict with and without the kernel: a whole one, then a window over it."""
    windows, lengths = [range(8, 12), range(6, 10)], [12, 10]
    canvas = torch.arange(24).view(2, 12).to(device)
    for family in ("llama", "qwen2"):
        plain = moved(random_model(family=family), device)
        by_kernel = plain.with_store_kv(store_kv_kernel.store_kv)
        assert by_kernel is not None, f"storing: the layers of a {family} model do not fit"
        stores = [model.new_store(2, 12) for model in (plain, by_kernel)]
        for plans in ([range(12), range(10)], windows):
            made = feed(plain.spec, [Rows(plan) for plan in plans], windows, lengths).to(device)
            with torch.inference_mode():
                known, got = (
                    m.hidden(canvas, made, s, m.attention) for m, s in zip((plain, by_kernel), stores, strict=True)
                )
            pairs = [(got, known), *_stored(*stores)]
            error = max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)
            assert error <= 1e-12, f"storing: {error:.2e} off in float64, {family}, {len(plans[0])} slots"


def _stored(known: Any, got: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Pair the buffers of two stores, without the scratch slot."""
    for ours, theirs in zip(got.slot_layers, known.slot_layers, strict=True):
        yield ours.keys[:, :, :-1], theirs.keys[:, :, :-1]
        yield ours.values[:, :, :-1], theirs.values[:, :, :-1]


def decoding(device: Device) -> None:
    """Decode with every cache, execution and attention backend to the tokens of `eager` on the CPU, in float64."""
    for cache, execution in product(caches(), executions(device)):
        same_tokens(device, cache, execution)


def same_tokens(device: Device, cache: str, execution: str) -> None:
    """Compare one cache and execution with the CPU: fixed and confidence-aware policies, drawn tokens, a batch."""
    model = random_model(pattern=_pattern(cache))
    there = moved(model, device)
    policies: tuple[Any, ...] = ("threshold", {"name": "top-k", "k": 3})
    for policy, temperature in zip(policies, (0.0, 1.0), strict=True):
        how = _how(cache, policy=policy, temperature=temperature)
        expected = compile_decoder(model, attention="sdpa", kernels="torch", **how).generate(PROMPTS, seed=1).tokens
        for attention, kernels in _forms(device):
            made = compile_decoder(there, attention=attention, kernels=kernels, execution=execution, **how)
            for _ in range(2):
                got = made.generate(PROMPTS, seed=1).tokens.cpu()
                case = f"{cache}, {policy}, {execution}, attention {attention}, kernels {kernels}"
                assert torch.equal(got, expected), f"decoding: tokens differ from the CPU's: {case}"


def batch_invariance(device: Device) -> None:
    """Decode every row alone and in a batch, to equal tokens."""
    for cache, execution in product(caches(), executions(device)):
        made = compile_decoder(
            moved(random_model(pattern=_pattern(cache)), device), execution=execution, **_how(cache, temperature=1.0)
        )
        together = made.generate(PROMPTS, seed=2).tokens
        for i, prompt in enumerate(PROMPTS):
            alone = made.generate([prompt], seed=2, row_ids=[i]).tokens[0]
            assert torch.equal(together[i], alone), f"batch invariance: row {i} is not as alone, {cache}, {execution}"


def caches() -> Iterator[str]:
    """Name the registered caches that fdllm itself offers."""
    for name, entry in sorted(names("caches").items()):
        if entry.module_name.startswith("fdllm."):
            yield name


def moved(model: Denoiser, device: Device) -> Denoiser:
    """Copy a model to a device."""
    return BackboneDenoiser(copy.deepcopy(model.module).to(device), model.spec, name=model.name)


def _pattern(cache: str) -> Any:
    kind: type[CachePolicy] = load("caches", cache)
    return "full" if "full" in kind.patterns else "block-causal"


def _how(cache: str, **how: Any) -> dict[str, Any]:
    return {"cache": cache, "max_new_tokens": 16, "block_length": 4, "stop_at_eos": False, **how}


def _forms(device: Device) -> tuple[tuple[str, str], ...]:
    """Attention and statistics; interpreted kernels are checked elsewhere, so on a CPU torch alone."""
    return (("sdpa", "torch"), ("triton", "triton")) if device.type == "cuda" else (("sdpa", "torch"),)


CHECKS: dict[str, Callable[[Device], None]] = {
    "attention": attention,
    "row statistics": row_stats,
    "head statistics": head_stats,
    "store_kv": store_kv,
    "storing": storing,
    "decoding": decoding,
    "batch invariance": batch_invariance,
}
