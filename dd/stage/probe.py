"""Which part of an observation an expert has to read on one level."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key, PyTree

from dd.env.base import AbstractEnv
from dd.model import actor

EPISODES = 64
HOLD = 8
MULTIPLE = 32


def varying(env: AbstractEnv, level: PyTree[Array], key: Key[Array, ""]) -> Bool[Array, "o"]:
    """Which entries of the flattened observation ever change while random actions are played.

    Each of `EPISODES` episodes runs `max_steps`, past its end; an action uniform in its range is held for `HOLD` steps,
    so that motors get somewhere.
    """
    spec = env.spec()
    low, high = jnp.asarray(spec.action_low), jnp.asarray(spec.action_high)
    every = jnp.arange(sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(spec.obs)))

    def episode(key: Key[Array, ""]) -> tuple[Array, Array]:
        begun = env.reset(level, key)
        first = actor.select(env.observe(level, begun), every)

        def advance(carry: tuple[Any, Array], t: Int[Array, ""]) -> tuple[tuple[Any, Array], None]:
            state, changed = carry
            action = jax.random.uniform(jax.random.fold_in(key, t // HOLD), low.shape, minval=low, maxval=high)
            state, _ = env.step(level, state, action, jax.random.fold_in(key, spec.max_steps + t))
            return (state, changed | (actor.select(env.observe(level, state), every) != first)), None

        carry = (begun, jnp.zeros(every.shape, bool))
        (_, changed), _ = jax.lax.scan(advance, carry, jnp.arange(spec.max_steps))
        return first, changed

    first, changed = jax.vmap(episode)(jax.random.split(key, EPISODES))
    return jnp.any(changed | (first != first[0]), axis=0)


def padded(varies: Bool[np.ndarray, "o"]) -> Int[np.ndarray, "k"]:
    """The entries that vary, ascending, padded with -1 to a `MULTIPLE`, so that levels share the networks' shapes."""
    columns = np.flatnonzero(varies)
    return np.pad(columns, (0, -len(columns) % MULTIPLE), constant_values=-1).astype(np.int32)
