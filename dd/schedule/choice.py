"""Choosing among many: ranks, and draws from a categorical distribution."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

_GREEDY = 1e-30  # a temperature at which the smallest difference between two logits leaves the lower one no mass
_COMPARED = 128  # entries up to which comparing all with all is faster than sorting twice, by up to three times


def rank(values: Float[Array, "*b n"]) -> Int[Array, "*b n"]:
    """The position of each value in ascending order along the last axis; equal ones in their own order."""
    if values.shape[-1] > _COMPARED:
        return jnp.argsort(jnp.argsort(values, axis=-1), axis=-1)
    mine, other = values[..., :, None], values[..., None, :]
    index = jnp.arange(values.shape[-1])
    ahead = (other < mine) | ((other == mine) & (index[None, :] < index[:, None]))
    return ahead.sum(axis=-1, dtype=jnp.int32)


def draw(key: Key[Array, ""], logits: Float[Array, "*b v"], temperature: Float[Array, ""]) -> Int[Array, "*b"]:
    """x ~ softmax(logits / temperature) along the last axis; at temperature 0 the first of the largest."""
    # The inverse of the distribution function takes one random number where Gumbel's trick takes v.
    above = (logits - logits.max(axis=-1, keepdims=True)) / jnp.maximum(temperature, _GREEDY)
    upto = jnp.cumsum(jnp.exp(above), axis=-1)
    # u < 1, but u * total may round to the total: the last bin with any mass is then the one.
    u = jnp.where(temperature > 0, jax.random.uniform(key, logits.shape[:-1]), 0.0)
    threshold = u[..., None] * upto[..., -1:]
    return jnp.sum(upto <= jnp.minimum(threshold, jnp.nextafter(upto[..., -1:], 0.0)), axis=-1, dtype=jnp.int32)
