"""DiffusionGemma: logits of transformers' forward, tokens of its own `generate` under the same noise."""

import json

import pytest
import torch
import transformers
from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig

import fdllm
from fdllm.compiler import UnsoundError
from fdllm.noise import gumbel, keys, random_ids
from fdllm.testing import check_denoiser

VOCABULARY, CANVAS = 96, 8
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 16,
    "num_global_key_value_heads": 1,
    "max_position_embeddings": 256,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 16,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
VISION = {"model_type": "gemma4_vision", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
VISION |= {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
PROMPTS = torch.randint(3, VOCABULARY, (3, 11), generator=torch.Generator().manual_seed(5))


def saved(path, sharp):
    """Save a tiny random checkpoint; a sharp one is unsure of some slots and sure of others."""
    config = transformers.DiffusionGemmaConfig(text_config=TEXT, vision_config=VISION, canvas_length=CANVAS)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = transformers.DiffusionGemmaForBlockDiffusion(config).eval()
        for weight in module.parameters():
            if sharp and weight.dim() > 1:
                torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        if sharp:
            module.lm_head.weight.data *= 3
    module.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module", params=["sharp, float64", "as initialized, float32"])
def pair(request, tmp_path_factory):
    """One checkpoint, loaded by fdllm and by transformers.

    Each step reads the logits of the one before, so rounding grows from step to step in the sharp
    model: it is run in float64, and its experts one by one, for they have no other code there.
    """
    sharp, dtype = request.param.startswith("sharp"), request.param.split()[-1]
    folder = saved(tmp_path_factory.mktemp("gemma") / "tiny", sharp)
    ours = fdllm.load(folder, dtype=dtype)
    theirs = transformers.DiffusionGemmaForBlockDiffusion.from_pretrained(folder, dtype=dtype).eval()
    if sharp:
        ours.module.set_experts_implementation("eager")
        theirs.set_experts_implementation("eager")
    return ours, theirs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fdllm.load(saved(tmp_path_factory.mktemp("gemma") / "tiny", sharp=False))


class SharedNoise:
    """Stands in for torch's generator: hands out our noise in the order their loop asks for it.

    A window begins with random ids; every step draws a sample, then new random ids.
    """

    def __init__(self, seed, rows, start):
        self.seed, self.rows, self.start = seed, torch.arange(rows)[:, None], start
        self.slots, self.step, self.sampled = None, -1, False

    def keys(self):
        return keys(self.seed, self.rows, self.slots.expand(len(self.rows), -1), self.step)

    def randint(self, low, high, size, device):
        if not self.sampled:
            self.slots, self.step = torch.arange(self.start, self.start + size[1])[None], -1
            self.start += size[1]
        ids = random_ids(self.keys(), high)
        self.step, self.sampled = self.step + 1, False
        return ids

    def multinomial(self, chances, num_samples):
        self.sampled = True
        logits = chances.log().view(len(self.rows), -1, chances.shape[-1])
        return (logits + gumbel(self.keys(), logits)).argmax(-1).view(-1, 1)


# bound on a draft, stable steps, mean entropy to stop below, temperatures
SETTINGS = {
    "as published": (0.1, 1, 0.005, 0.8, 0.4),
    "large drafts": (4.0, 1, 1.5, 0.5, 0.01),
    "everything drafted": (1e9, 2, 1.0, 0.2, 0.001),
    "stops when sure": (0.5, 0, 0.3, 0.9, 0.2),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("cache", ["block-causal", "none"])
def test_tokens_are_those_of_transformers(pair, monkeypatch, settings, cache):
    ours, theirs = pair
    bound, stable, mean, start, end = settings
    rule = {"name": "renoise", "steps": 12, "entropy_bound": bound, "stable_steps": stable, "mean_entropy": mean}
    decoder = fdllm.compile(
        ours,
        cache=cache,
        policy=rule,
        temperature={"name": "linear", "start": start, "end": end},
        max_new_tokens=3 * CANVAS,
        stop_at_eos=False,
    )
    out = decoder.generate(PROMPTS, seed=7)
    noise = SharedNoise(7, len(PROMPTS), PROMPTS.shape[1])
    monkeypatch.setattr(torch, "randint", noise.randint)
    monkeypatch.setattr(torch, "multinomial", noise.multinomial)
    theirs.generation_config.eos_token_id = None
    expected = theirs.generate(
        PROMPTS,
        max_new_tokens=3 * CANVAS,
        max_denoising_steps=12,
        sampler_config=EntropyBoundSamplerConfig(bound),
        t_max=start,
        t_min=end,
        stability_threshold=stable,
        confidence_threshold=mean,
    )
    assert torch.equal(out.tokens, expected.sequences[:, PROMPTS.shape[1] :])
    assert out.row_nfe == [round(3 * CANVAS / rate) for rate in expected.tokens_per_forward.tolist()]


def test_logits_are_those_of_transformers(pair):
    ours, theirs = pair
    ids = torch.randint(3, VOCABULARY, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(input_ids=ids[:, :-CANVAS], decoder_input_ids=ids[:, -CANVAS:]).logits
    assert ours.logits(ids).shape == (2, 30, VOCABULARY)
    assert (ours.logits(ids)[:, -CANVAS:] - expected).abs().max() <= 2e-5


def test_holds_the_law_of_denoisers(model):
    check_denoiser(model, vocabulary=VOCABULARY)


def test_a_row_does_not_depend_on_its_batch(model):
    decoder = fdllm.compile(model, max_new_tokens=2 * CANVAS, policy={"name": "renoise", "steps": 4})
    prompts = [[5], [7, 8, 9, 10, 11, 12, 13, 14, 15, 16], [20, 21, 22]]
    batch = decoder.generate(prompts, seed=3)
    for i, prompt in enumerate(prompts):
        assert torch.equal(decoder.generate([prompt], seed=3, row_ids=[i]).tokens[0], batch.tokens[i])


def test_its_defaults_are_those_of_its_generation_config(tmp_path):
    folder = saved(tmp_path / "tiny", sharp=False)
    file = tmp_path / "tiny" / "generation_config.json"
    told = {
        "t_max": 0.7,
        "max_denoising_steps": 9,
        "sampler_config": EntropyBoundSamplerConfig(0.3).to_dict(),
        "eos_token_id": [1, 5],
    }
    file.write_text(json.dumps(json.loads(file.read_text()) | told))
    model = fdllm.load(folder)
    assert model.spec == fdllm.Spec(
        noise="uniform", eos_ids=(1, 5), vocab_size=96, context=256, pattern="causal-prefix", block_length=CANVAS
    )
    text = fdllm.compile(model, max_new_tokens=CANVAS).explain()
    assert "cache: BlockCausal()" in text
    assert "policy: Renoise(steps=9, entropy_bound=0.3, stable_steps=1, mean_entropy=0.005)" in text
    assert "sampling: Sampling(temperature=Linear(start=0.7, end=0.4)" in text
    assert "as the model recommends: cache, policy, temperature" in text


def test_any_policy_decodes_from_uniform_noise(model):
    """Slots hold random ids until they are decided; which are open is known apart from what they hold."""
    decoder = fdllm.compile(model, policy="top-k", temperature=0, max_new_tokens=CANVAS, stop_at_eos=False)
    out = decoder.generate([[5, 6, 7]], trace=True)
    assert [len(move.committed) for move in out.trace] == [1] * CANVAS
    assert torch.equal(out.tokens, decoder.generate([[5, 6, 7]]).tokens)
    assert not torch.equal(out.tokens, decoder.generate([[5, 6, 7]], seed=1).tokens), "the seed draws the noise"


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(UnsoundError, match=r"Dual\(\) is meant for full attention, but .* is causal-prefix"):
        fdllm.compile(model, cache="dual")
    with pytest.raises(ValueError, match="max_new_tokens: 12 slots in windows of 4, 8, .* a multiple of"):
        fdllm.compile(model, max_new_tokens=12)


def test_its_steps_can_be_recorded(model):
    how = {"max_new_tokens": 2 * CANVAS, "policy": {"name": "renoise", "steps": 6}}
    for cache in ("none", "block-causal"):
        static, eager = (fdllm.compile(model, cache=cache, execution=name, **how) for name in ("static", "eager"))
        got = static.generate(PROMPTS, seed=2)
        assert torch.equal(got.tokens, eager.generate(PROMPTS, seed=2).tokens)
        assert got.stats.replays
