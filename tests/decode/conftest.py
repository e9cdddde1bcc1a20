"""One tiny policy and one compiled program per decode method."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd import fields
from dd.decode.base import Prefix
from dd.schedule.masked import MaskGIT
from tests import tiny

BATCH = 16


@pytest.fixture(scope="session")
def policy():
    return tiny.policy()


@pytest.fixture(scope="session")
def prefix():
    """A plan to go on with: [16, 8, 2], none of it at a bin's centre."""
    return np.random.default_rng(0).uniform(-0.9, 0.9, (BATCH, 8, 2)).astype(np.float32)


@pytest.fixture(scope="session")
def chunks(policy, prefix):
    """(decode, d, s) -> chunks [16, 8, 2]."""
    params = tiny.params(policy)
    obs = jax.random.normal(jax.random.key(1), (BATCH, 4))
    keys = jax.random.split(jax.random.key(2), BATCH)

    @functools.partial(jax.jit, static_argnums=0)
    def run(cls, leaves, d, s):
        decode = fields.bind(cls(), leaves)
        return decode.chunk(policy, MaskGIT(), params, keys, obs, Prefix(jnp.asarray(prefix), d, s))

    def call(decode, d, s):
        leaves = {name: jnp.asarray(value) for name, value in fields.leaves(decode)}
        return np.asarray(run(type(decode), leaves, jnp.int32(d), jnp.int32(s)))

    return call
