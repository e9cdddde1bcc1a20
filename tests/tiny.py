"""A policy small enough to compile in a second, untrained: its chunks depend on observation, key and known tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dd.env.pointmass import PointMass
from dd.model.mixer import Mixer
from dd.policy import Policy
from dd.schedule.base import AbstractProcess
from dd.schedule.masked import Masked

WORLD = PointMass(speed=0.4, radius=0.5, hold=2)
"""Docked by chance now and then, at differing steps."""


def policy(chunk=8, num_bins=8):
    model = Mixer(num_layers=1, channel_dim=8, channel_hidden_dim=8, token_hidden_dim=8)
    return Policy(Masked(num_bins=num_bins), model, WORLD.spec(), chunk)


def params(policy, seed=0):
    """Parameters of the size training ends with: at initialisation logits are nearly flat and the time's gates shut."""
    leaves, structure = jax.tree.flatten(policy.create(jax.random.key(seed)))
    if policy.process.timed:
        keys = jax.random.split(jax.random.key(seed), len(leaves))
        leaves = [x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    return jax.tree.map(lambda x: 3.0 * x, jax.tree.unflatten(structure, leaves))


def bins(policy, actions):
    return np.asarray(policy.encode(jnp.asarray(actions)))


class Taken(NamedTuple):
    """The times a chunk was taken through, and how many."""

    times: Float[Array, "10 3"]
    count: Int[Array, ""]
    known: Bool[Array, "8"]


class Times(AbstractProcess):
    """A continuous process with time, whose state is the list of times it was taken through (at most ten)."""

    timed = True
    in_vocab = out_vocab = None

    def encode(self, actions, low, high):
        return actions

    def decode(self, x, low, high):
        return x

    def loss(self, key, x, kept, denoise):
        raise NotImplementedError

    def prior(self, key, chunk, action_dim):
        return Taken(jnp.full((10, 3), -1.0), jnp.int32(0), jnp.zeros(chunk, bool))

    def impose(self, state, x, where):
        return state._replace(known=state.known | where)

    def noisy(self, state):
        return jnp.zeros((8, 2))
