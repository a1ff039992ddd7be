"""The laws over everything registered, plugins included."""

import pytest

from fdllm import registry
from fdllm.component import Component
from fdllm.passes.demand import demand
from fdllm.passes.fuse import fuse
from fdllm.testing import (
    check_attention,
    check_cache,
    check_decoding,
    check_pass,
    check_policy,
    check_schedule,
    check_temperature,
)

VARIANTS = {
    "top-k": [{"k": 3}, {"order": "margin"}, {"order": "entropy"}, {"order": "random"}, {"steps": 12},
              {"steps": 12, "spacing": "timesteps", "order": "entropy"}],
    "factor": [{"as_released": True}],
    "threshold": [{"threshold": 0.3}],
    "renoise": [{"steps": 5, "entropy_bound": 2.0, "mean_entropy": 1.0},
                {"steps": 3, "stable_steps": 0, "mean_entropy": 9.0}],
    "linear": [{"start": 0.1, "end": 2.0}],
    "refresh-interval": [{"interval": 1}, {"interval": 3}],
    "blocks": [{"block_length": 5}],
}  # fmt: skip


def members(group):
    return [
        pytest.param(name, settings, id=f"{name}-{settings}")
        for name in sorted(registry.names(group))
        for settings in [{}, *VARIANTS.get(name, [])]
    ]


def made(group, name, settings) -> Component:
    return registry.load(group, name)(**settings)


@pytest.mark.parametrize(("name", "settings"), members("policies"))
def test_policy(name, settings):
    check_policy(made("policies", name, settings))


@pytest.mark.parametrize(("name", "settings"), members("caches"))
def test_cache(name, settings):
    check_cache(made("caches", name, settings))


@pytest.mark.parametrize(("name", "settings"), members("schedules"))
def test_schedule(name, settings):
    check_schedule(made("schedules", name, settings))


@pytest.mark.parametrize(("name", "settings"), members("temperatures"))
def test_temperature(name, settings):
    check_temperature(made("temperatures", name, settings))


@pytest.mark.parametrize(("name", "settings"), members("attention"))
def test_attention(name, settings):
    check_attention(made("attention", name, settings))


@pytest.mark.parametrize("transform", [demand, fuse])
def test_pass(transform):
    check_pass(transform)


def test_a_cache_that_refreshes_every_step_is_exact():
    check_decoding(cache=made("caches", "refresh-interval", {"interval": 1}))
