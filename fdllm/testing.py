"""The laws of components, held by hypothesis. A plugin's whole test is one call.

    def test_my_policy() -> None:
        check_policy(MyPolicy())

Everything here raises AssertionError with a sentence that names the law.
"""

from collections.abc import Callable
from functools import cache as remember
from typing import Any, ClassVar, Literal, final

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from fdllm.attention.base import AttentionBackend
from fdllm.caches.base import CachePolicy, Rows, Step
from fdllm.compiling import compile as compile_decoder
from fdllm.graph import Graph, check, emit, node
from fdllm.models.denoiser import Denoiser
from fdllm.models.spec import Spec
from fdllm.passes.resolve import PREVIOUS, Sampling, resolve
from fdllm.policies.base import UnmaskingPolicy
from fdllm.policies.threshold import Threshold
from fdllm.reference import Reference
from fdllm.schedules.base import Schedule
from fdllm.schedules.blocks import Blocks
from fdllm.types import Port

VOCABULARY = 40
MASK_ID, EOS_ID = VOCABULARY - 1, VOCABULARY - 2
few = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


@remember
def random_model(seed: int = 0, *, shift: bool = False, family: Literal["llama", "qwen2"] = "llama") -> Denoiser:
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
    spec = Spec(mask_id=MASK_ID, eos_ids=(EOS_ID,), vocab_size=VOCABULARY, context=256, shift=shift)
    return BackboneDenoiser(module, spec, name=f"random {family} {seed}")


def values_of(port: Port, batch: int, width: int) -> st.SearchStrategy[Tensor]:
    """Draw a value of a port: [batch, width] or [batch, 1], ties and extremes included.

    Raises:
        ValueError: a port of a shape or kind that policies do not read.

    """
    columns = {"B W": width, "B 1": 1}.get(port.dims)
    if columns is None:
        raise ValueError(f"no values to draw for {port}")
    each: st.SearchStrategy[Any] = {
        "bool": st.booleans(),
        "int64": st.integers(
            1 if port.unit in ("token", "step") else 0, width if port.dims == "B 1" else VOCABULARY - 3
        ),
        "float": st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1, width=32),
    }[port.kind]
    dtype = {"bool": torch.bool, "int64": torch.int64, "float": torch.float32}[port.kind]
    size = batch * columns
    return st.lists(each, min_size=size, max_size=size).map(
        lambda flat: torch.tensor(flat, dtype=dtype).reshape(batch, columns)
    )


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


def choose(policy: UnmaskingPolicy, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Ask a policy; return `commit`, and what else it answers, by name."""
    reads = node(policy.rule(), "policy").reads
    answer = policy.rule()(**{name: values[name] for name in reads})
    return {"commit": answer} if isinstance(answer, Tensor) else answer._asdict()


def check_policy(policy: UnmaskingPolicy) -> None:
    """Hold the laws stated in `UnmaskingPolicy`, then decode with it against the reference."""

    @many
    @given(situations(policy))
    def rule(values: dict[str, Tensor]) -> None:
        before = {name: value.clone() for name, value in values.items()}
        answer = choose(policy, values)
        commit, masked = answer["commit"], values["masked"]
        assert commit.dtype == torch.bool, f"{policy!r}: commit is {commit.dtype}, not bool"
        assert commit.shape == masked.shape, f"{policy!r}: commit has shape {tuple(commit.shape)}, not that of masked"
        assert not (commit & ~masked).any(), f"{policy!r}: a decided slot was committed again"
        if policy.progresses:
            assert torch.equal(commit.any(-1), masked.any(-1)), f"{policy!r}: a row made no progress"
        if policy.revokes:
            assert not (answer["reopen"] & masked).any(), f"{policy!r}: an open slot was reopened"
        same = {name: torch.equal(values[name].nan_to_num(9), before[name].nan_to_num(9)) for name in before}
        assert all(same.values()), f"{policy!r}: a value it reads was changed"
        _same_answer(answer, choose(policy, values), f"{policy!r}: the same values gave another choice")
        for i in range(len(masked)):
            alone = choose(policy, {name: value[i : i + 1] for name, value in values.items()})
            row = {name: value[i : i + 1] for name, value in answer.items()}
            _same_answer(row, alone, f"{policy!r}: a row's choice depends on the rows around it")

    rule()
    if policy.monotone:
        _check_monotone(policy)
    check_decoding(policy=policy)


def _same_answer(one: dict[str, Tensor], other: dict[str, Tensor], law: str) -> None:
    assert all(torch.equal(one[name].nan_to_num(9), other[name].nan_to_num(9)) for name in one), law


def _check_monotone(policy: UnmaskingPolicy) -> None:
    @many
    @given(situations(policy), st.floats(0, 1), st.floats(0, 1))
    def knob(values: dict[str, Tensor], one: float, other: float) -> None:
        try:
            looser, stricter = (policy.with_settings(**{policy.monotone: v}) for v in sorted((one, other)))
        except ValidationError:
            assume(False)
        more, fewer = choose(looser, values)["commit"], choose(stricter, values)["commit"]
        assert not (fewer & ~more).any(), f"{policy!r}: a larger {policy.monotone} committed more slots"

    knob()


@final
class Everything(CachePolicy):
    """Ask another cache, then recompute every slot anyway: decoding must equal the reference."""

    attention: ClassVar[tuple[str, ...]] = ("full", "block-causal")

    inner: CachePolicy

    def rows(self, step: Step) -> Rows:
        """Answer every slot."""
        self.inner.rows(step)
        return Rows(range(step.length))


@st.composite
def tasks(draw: st.DrawFn) -> tuple[Denoiser, list[list[int]], int, int]:
    """Draw a model, ragged prompts, new tokens and a block length."""
    model = random_model(draw(st.integers(0, 3)), shift=draw(st.booleans()))
    ids = st.integers(0, VOCABULARY - 3)
    prompts = draw(st.lists(st.lists(ids, min_size=1, max_size=7), min_size=1, max_size=3))
    num_new = draw(st.integers(1, 12))
    return model, prompts, num_new, draw(st.integers(1, num_new))


def check_cache(cache: CachePolicy) -> None:
    """Hold the laws stated in `CachePolicy`."""

    @few
    @given(tasks(), st.floats(0, 1))
    def laws(task: tuple[Denoiser, list[list[int]], int, int], threshold: float) -> None:
        model, prompts, num_new, block = task
        how: dict[str, Any] = {
            "policy": Threshold(threshold=threshold),
            "max_new_tokens": num_new,
            "block_length": block,
        }
        decoder = compile_decoder(model, cache=cache, **how)
        out = decoder.generate(prompts)
        check_result(out.tokens, model.spec, f"{cache!r}")
        for i, prompt in enumerate(prompts):
            alone = decoder.generate([prompt], row_ids=[i]).tokens[0]
            assert torch.equal(out.tokens[i], alone), f"{cache!r}: a row's tokens depend on its batch"
        if cache.stores:
            whole = compile_decoder(model, cache=Everything(inner=cache), **how).generate(prompts).tokens
            plain = compile_decoder(model, cache="none", **how).generate(prompts).tokens
            assert torch.equal(whole, plain), f"{cache!r}: recomputing every slot is not the uncached result"

    laws()


def check_decoding(
    *, policy: UnmaskingPolicy | None = None, schedule: Schedule | None = None, cache: str | CachePolicy = "none"
) -> None:
    """Compare compiled decoding with the reference over drawn models, ragged prompts, blocks and sampling.

    Args:
        policy: the rule to decode with; `threshold` 0.9 unless given.
        schedule: the windows; drawn blocks unless given.
        cache: must be exact, as `none` is.

    """
    rule = policy or Threshold()
    samplings = st.sampled_from(
        [Sampling(), Sampling(), Sampling(1.0), Sampling(0.7, top_p=0.8), Sampling(0.0, 0.9, 5)]
    )

    @few
    @given(tasks(), samplings, st.integers(0, 2**40), st.booleans())
    def equal(task: tuple[Denoiser, list[list[int]], int, int], how: Sampling, seed: int, stop_at_eos: bool) -> None:
        model, prompts, num_new, block = task
        cut = schedule or Blocks(block_length=block)
        _assume_planned(rule, cut, num_new)
        drawn: dict[str, Any] = {
            "temperature": how.temperature,
            "top_p": how.top_p,
            "top_k": how.top_k,
            "stop_at_eos": stop_at_eos,
        }
        decoder = compile_decoder(model, cache=cache, policy=rule, schedule=cut, max_new_tokens=num_new, **drawn)
        out = decoder.generate(prompts, seed=seed)
        plain = Reference(model.logits, model.spec, rule, cut, num_new, **drawn)
        expected = [plain.decode(prompt, seed, i) for i, prompt in enumerate(prompts)]
        assert out.tokens.tolist() == [tokens for tokens, _ in expected], f"{rule!r}: tokens differ from the reference"
        assert out.nfe >= max(nfe for _, nfe in expected), f"{rule!r}: fewer forwards than the longest row needs"
        assert out.nfe <= num_new, f"{rule!r}: more forwards than slots"
        check_result(out.tokens, model.spec, f"{rule!r}")

    equal()


def _assume_planned(policy: UnmaskingPolicy, schedule: Schedule, num_new: int) -> None:
    windows = schedule.windows(num_new)
    try:
        policy.quotas(len(windows[0]), len(windows))
    except ValueError:
        assume(False)


def check_result(tokens: Tensor, spec: Spec, who: str) -> None:
    """Hold what is true of every result: no mask id, no id beyond the vocabulary."""
    assert not (tokens == spec.mask_id).any(), f"{who}: a mask id is left"
    assert spec.vocab_size is None or bool((tokens < spec.vocab_size).all()), f"{who}: an id beyond the vocabulary"


def check_schedule(schedule: Schedule) -> None:
    """Hold the law of schedules, then decode with it against the reference."""

    @many
    @given(st.integers(1, 200))
    def law(num_new: int) -> None:
        windows = schedule.windows(num_new)
        covered = [slot for window in windows for slot in window]
        assert covered == list(range(num_new)), f"{schedule!r}: windows do not cover the response once, in order"

    law()
    check_decoding(schedule=schedule)


def check_pass(transform: Callable[[Graph], Graph]) -> None:
    """Decode with and without a pass: it may change the graph, never a token."""

    @few
    @given(tasks(), st.sampled_from(["threshold", "top-k", "factor"]), st.sampled_from([0.0, 1.0]))
    def same(task: tuple[Denoiser, list[list[int]], int, int], policy: str, temperature: float) -> None:
        model, prompts, num_new, block = task
        how: dict[str, Any] = {"max_new_tokens": num_new, "block_length": block, "temperature": temperature}
        decoder = compile_decoder(model, policy=policy, **how)
        expected = decoder.generate(prompts).tokens
        program = decoder.compiled.programs["full"]
        graph = transform(check(resolve(decoder.parts, ())[0]))
        object.__setattr__(program, "graph", graph)
        object.__setattr__(program, "run", emit(graph, "full_step"))
        got = decoder.generate(prompts).tokens
        assert torch.equal(got, expected), f"pass {transform.__name__}: tokens changed"

    same()


def check_attention(backend: AttentionBackend) -> None:
    """Compare a backend with softmax attention in float64 over odd sizes, grouped heads and hidden keys."""

    @many
    @given(
        st.integers(1, 3),
        st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 3)]),
        st.integers(1, 9),
        st.integers(1, 33),
        st.sampled_from([4, 8, 20]),
        st.sampled_from([torch.float32, torch.bfloat16]),
        st.booleans(),
    )
    def equal(
        batch: int, heads: tuple[int, int], rows: int, slots: int, width: int, dtype: torch.dtype, hide: bool
    ) -> None:
        noise = torch.Generator().manual_seed(batch * 1009 + rows * 31 + slots)
        q, k, v = (
            torch.randn(batch, h, n, width, generator=noise).to(dtype)
            for h, n in ((heads[0], rows), (heads[1], slots), (heads[1], slots))
        )
        lengths = torch.randint(1, slots + 1, (batch,), generator=noise)
        seen = (torch.arange(slots) < lengths[:, None])[:, None, None, :] if hide else None
        scale = width**-0.5
        got = backend(q, k, v, seen, scale).double()
        exact = _plain_attention(q.double(), k.double(), v.double(), seen, scale)
        coarse = _plain_attention(q, k, v, seen, scale).double()
        allowed = 2 * (coarse - exact).abs().max() + 4 * torch.finfo(dtype).eps * exact.abs().max()
        assert (got - exact).abs().max() <= allowed, f"{backend!r}: differs from softmax attention"

    equal()


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, scale: float) -> Tensor:
    group = q.shape[1] // k.shape[1]
    scores = torch.einsum("bhrd,bhnd->bhrn", q, k.repeat_interleave(group, 1)) * scale
    scores = scores if seen is None else scores.masked_fill(~seen, -torch.inf)
    return torch.einsum("bhrn,bhnd->bhrd", scores.softmax(-1), v.repeat_interleave(group, 1))
