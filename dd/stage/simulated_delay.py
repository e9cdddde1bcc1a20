"""Prefixes that training gives, so that a policy learns to go on from actions that are already decided."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key


def lengths(simulated_delay: int | bool | None, chunk: int) -> Float[np.ndarray, "n"]:
    """The probability of each length 0, 1, ... of the prefix.

    Args:
        simulated_delay: n >= 2: lengths 0..n-1 with weights proportional to exp(n - 1 - i), as published with
            training-time real-time chunking (arXiv 2512.05964); true: 0..H/2, each alike; None: 0 alone.
        chunk: H.
    """
    if simulated_delay is None:
        return np.ones(1)
    if simulated_delay is True:
        return np.full(chunk // 2 + 1, 1.0 / (chunk // 2 + 1))
    weight = np.exp(-np.arange(simulated_delay, dtype=np.float64))
    return weight / weight.sum()


def kept(key: Key[Array, ""], simulated_delay: int | bool | None, batch: int, chunk: int) -> Bool[Array, "b h"]:
    """The entries of each sample's prefix."""
    p = lengths(simulated_delay, chunk)
    length = jax.random.choice(key, len(p), (batch,), p=jnp.asarray(p, jnp.float32))
    return jnp.arange(chunk) < length[:, None]
