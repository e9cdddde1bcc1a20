"""Tiny policies over tokens and over real values, and one compiled program per decode method."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd import fields
from dd.decode.base import POLICY, Prefix
from dd.schedule.flow import Flow
from dd.schedule.uniform import Uniform
from tests import tiny

BATCH = 16


@pytest.fixture(scope="session")
def policy():
    return tiny.policy()


@pytest.fixture(scope="session")
def flow():
    """It was trained with prefixes given, or so it says."""
    return dataclasses.replace(tiny.policy(), process=Flow(), simulated_delay=True)


@pytest.fixture(scope="session")
def prefix():
    """A plan to go on with: [16, 8, 2], none of it at a bin's centre."""
    return np.random.default_rng(0).uniform(-0.9, 0.9, (BATCH, 8, 2)).astype(np.float32)


def chunks_of(policy, prefix):
    """(decode, d, s) -> chunks [16, 8, 2]; with `whole`, the network's evaluations too."""
    params = {POLICY: tiny.params(policy), "weak": tiny.params(policy, seed=1)}
    obs = jax.random.normal(jax.random.key(1), (BATCH, 4))
    keys = jax.random.split(jax.random.key(2), BATCH)

    @functools.partial(jax.jit, static_argnums=0)
    def run(decode, leaves, d, s):
        bound, plan = fields.bind(decode, leaves), Prefix(jnp.asarray(prefix), d, s)
        return bound.chunk(policy, policy.process.sampler(), params, keys, obs, plan)

    def call(decode, d, s, *, whole=False):
        leaves = {name: jnp.asarray(value) for name, value in fields.leaves(decode)}
        plain = dataclasses.replace(decode, **{name: getattr(type(decode)(), name) for name in leaves})
        found = run(plain, leaves, jnp.int32(d), jnp.int32(s))
        return jax.tree.map(np.asarray, found) if whole else np.asarray(found.actions)

    return call


@pytest.fixture(scope="session")
def chunks(policy, prefix):
    return chunks_of(policy, prefix)


@pytest.fixture(scope="session")
def uniform_chunks(policy, prefix):
    return chunks_of(dataclasses.replace(policy, process=Uniform(num_bins=policy.process.num_bins)), prefix)


@pytest.fixture(scope="session", params=["masked", "uniform"])
def token_chunks(request):
    """Of either process over tokens."""
    return request.getfixturevalue("chunks" if request.param == "masked" else "uniform_chunks")


@pytest.fixture(scope="session")
def flow_chunks(flow, prefix):
    return chunks_of(flow, prefix)
