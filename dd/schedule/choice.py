"""Choosing among many: ranks, and draws from a categorical distribution."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

_COMPARED = 128  # entries up to which comparing all with all is faster than sorting twice, by up to three times
_BLOCK = 16  # classes of a block: about the square root of a usual number of bins


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
    # The inverse of the distribution function takes one random number where Gumbel's trick takes v. It is found in two
    # rounds, a block of classes and one of these, for running sums over all of them cost several passes of memory.
    above = (logits - logits.max(axis=-1, keepdims=True)) / jnp.maximum(temperature, 1e-6)
    fill = [(0, 0)] * (logits.ndim - 1) + [(0, -logits.shape[-1] % _BLOCK)]
    mass = jnp.pad(jnp.exp(above), fill).reshape(*logits.shape[:-1], -1, _BLOCK)
    total = mass.sum(axis=-1)
    u = jnp.where(temperature > 0, jax.random.uniform(key, logits.shape[:-1]), 0.0)
    block, rest = _first_above(total, u * total.sum(axis=-1))
    within, _ = _first_above(jnp.take_along_axis(mass, block[..., None, None], axis=-2)[..., 0, :], rest)
    return block * _BLOCK + within


def _first_above(
    mass: Float[Array, "*b n"], threshold: Float[Array, "*b"]
) -> tuple[Int[Array, "*b"], Float[Array, "*b"]]:
    """Where running sums first exceed the threshold, and how far the threshold is above the sum before (at least 0)."""
    upto = jnp.cumsum(mass, axis=-1)
    # A threshold of u < 1 times the total may round to the total: the last with any mass is then the one.
    below = upto <= jnp.minimum(threshold[..., None], jnp.nextafter(upto[..., -1:], 0.0))
    rest = threshold - jnp.where(below, mass, 0.0).sum(axis=-1)
    return below.sum(axis=-1, dtype=jnp.int32), jnp.maximum(rest, 0.0)
