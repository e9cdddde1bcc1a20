"""A policy small enough to compile in a second, untrained: its chunks depend on observation, key and known tokens."""

import jax
import jax.numpy as jnp
import numpy as np

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
    """Parameters of the size training ends with: at initialisation the logits are nearly flat."""
    return jax.tree.map(lambda x: 3.0 * x, policy.create(jax.random.key(seed)))


def bins(policy, actions):
    return np.asarray(policy.encode(jnp.asarray(actions)))


class Times(AbstractProcess):
    """A continuous process with time, whose state is the list of times it was taken through (at most ten)."""

    timed = True
    in_vocab = out_vocab = None

    def encode(self, actions, low, high):
        return actions

    def decode(self, x, low, high):
        return x

    def loss(self, key, x, denoise):
        raise NotImplementedError

    def prior(self, key, chunk, action_dim):
        return jnp.full((10, 3), -1.0), jnp.int32(0)

    def noisy(self, state):
        return jnp.zeros((8, 2))
