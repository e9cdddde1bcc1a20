"""Continuous actions as tokens: uniform bins over the action range of each dimension."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Bins(NamedTuple):
    """`num_bins` equal bins a dimension between `low` and `high`; a token stands for the centre of its bin.

    Attributes:
        low: lower end of each action dimension, length a.
        high: upper end, length a.
        num_bins: v, bins per dimension.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    num_bins: int

    def encode(self, actions: Float[Array, "*b a"]) -> Int[Array, "*b a"]:
        """The bin of each action, in 0..v-1; actions outside the range fall into the outermost bins."""
        unit = (actions - jnp.asarray(self.low)) / (jnp.asarray(self.high) - jnp.asarray(self.low))
        return jnp.clip(jnp.floor(unit * self.num_bins), 0, self.num_bins - 1).astype(jnp.int32)

    def decode(self, tokens: Int[Array, "*b a"]) -> Float[Array, "*b a"]:
        """The centre of each token's bin; `encode(decode(tokens)) == tokens`."""
        unit = (tokens.astype(jnp.float32) + 0.5) / self.num_bins
        return jnp.asarray(self.low) + unit * (jnp.asarray(self.high) - jnp.asarray(self.low))

    def centres(self) -> Float[Array, "a v"]:
        """All bin centres, per dimension."""
        grid = jnp.broadcast_to(jnp.arange(self.num_bins)[:, None], (self.num_bins, len(self.low)))
        return self.decode(grid).T
