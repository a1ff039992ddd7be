"""What the laws are drawn from: random models, ragged prompts, values of every port."""

from functools import cache as remember
from typing import Any, Literal

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from fdllm.columns import PREVIOUS
from fdllm.graph import node
from fdllm.models.denoiser import Denoiser
from fdllm.models.spec import Spec
from fdllm.policies.base import UnmaskingPolicy
from fdllm.types import Port

VOCABULARY = 40
MASK_ID, EOS_ID = VOCABULARY - 1, VOCABULARY - 2
few = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


@remember
def random_model(
    seed: int = 0,
    *,
    shift: bool = False,
    family: Literal["llama", "qwen2"] = "llama",
    pattern: Literal["full", "block-causal", "causal-prefix"] = "full",
    noise: Literal["mask", "uniform"] = "mask",
) -> Denoiser:
    """Make a tiny random model over a real transformers class, in float64 so that nothing hangs on rounding.

    Its weights are sharp: top-1 probabilities spread from about 0.1 to 1.
    """
    import transformers

    from fdllm.models.backbone import BackboneDenoiser

    kind: Any = {"llama": transformers.LlamaForCausalLM, "qwen2": transformers.Qwen2ForCausalLM}[family]
    config = kind.config_class(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        use_cache=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = kind(config).double().eval()
        for weight in module.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        torch.nn.init.normal_(module.lm_head.weight, std=0.6)
    spec = Spec(
        block_length=32 if pattern == "full" else 4,
        mask_id=MASK_ID if noise == "mask" else None,
        noise=noise,
        eos_ids=(EOS_ID,),
        vocab_size=VOCABULARY,
        context=256,
        shift=shift,
        pattern=pattern,
    )
    return BackboneDenoiser(module, spec, name=f"random {family} {seed}")


def values_of(port: Port, batch: int, width: int) -> st.SearchStrategy[Tensor]:
    """Draw a value of a port: [batch, width] or [batch, 1], ties and extremes included.

    Raises:
        ValueError: a port of a shape or kind that policies do not read.

    """
    if port.dims == "B W V":
        return st.integers(0, 2**32).map(lambda seed: _logits(seed, batch, width))
    columns = {"B W": width, "B 1": 1}.get(port.dims)
    if columns is None:
        raise ValueError(f"no values to draw for {port}")
    top = 4.0 if port.unit == "nat" else 1.0
    each: st.SearchStrategy[Any] = {
        "bool": st.booleans(),
        "int64": st.integers(
            1 if port.unit in ("token", "step") else 0, width if port.dims == "B 1" else VOCABULARY - 3
        ),
        "float": st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, top, width=32),
    }[port.kind]
    dtype = {"bool": torch.bool, "int64": torch.int64, "float": torch.float32}[port.kind]
    size = batch * columns
    return st.lists(each, min_size=size, max_size=size).map(
        lambda flat: torch.tensor(flat, dtype=dtype).reshape(batch, columns)
    )


def _logits(seed: int, batch: int, width: int) -> Tensor:
    return 4 * torch.randn(batch, width, VOCABULARY, generator=torch.Generator().manual_seed(seed))


@st.composite
def situations(draw: st.DrawFn, policy: UnmaskingPolicy) -> dict[str, Tensor]:
    """Draw everything a policy reads: open slots, signals, quota, columns; nothing yet at some previous values."""
    batch, width = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    values = {name: draw(values_of(port, batch, width)) for name, port in node(policy.rule(), "policy").reads.items()}
    values.setdefault("masked", draw(values_of(Port("B W", "bool"), batch, width)))
    for name, value in values.items():
        if name.startswith(PREVIOUS) and value.is_floating_point():
            values[name] = value.masked_fill(draw(values_of(Port("B W", "bool"), batch, width)), float("nan"))
    return values


@st.composite
def tasks(draw: st.DrawFn, patterns: tuple[str, ...] = ("full",)) -> tuple[Denoiser, list[list[int]], int, int]:
    """Draw a model, ragged prompts, new tokens and a block length; one that is not full has blocks of 4."""
    pattern, noise = draw(st.sampled_from(patterns)), draw(st.sampled_from(["mask", "mask", "uniform"]))
    shift = draw(st.booleans()) and pattern != "causal-prefix"
    model = random_model(draw(st.integers(0, 3)), shift=shift, pattern=pattern, noise=noise)
    ids = st.integers(0, VOCABULARY - 3)
    prompts = draw(st.lists(st.lists(ids, min_size=1, max_size=7), min_size=1, max_size=3))
    num_new = draw(st.integers(1, 12))
    if pattern == "causal-prefix":
        return model, prompts, -(-num_new // 4) * 4, 4
    block = draw(st.sampled_from([1, 2, 4]) if pattern == "block-causal" else st.integers(1, num_new))
    return model, prompts, num_new, block
