"""How much each entry of the prefix counts (real-time chunking, arXiv 2506.07339, eq. 5 and its ablations)."""

import abc

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dd import fields


class AbstractWeights(abc.ABC):
    """Weights over the h entries of a prefix: 1 before start, 0 from end on."""

    @abc.abstractmethod
    def between(self, share: Float[Array, "h"]) -> Float[Array, "h"]:
        """The weights from start to end, by c = (end - i) / (end - start + 1), which falls from below 1 to above 0."""

    def __call__(self, start: int | Int[Array, ""], end: int | Int[Array, ""], size: int) -> Float[Array, "h"]:
        """All weights; where end is before start, those before end stay 1."""
        index = jnp.arange(size)
        start = jnp.minimum(start, end)
        share = jnp.clip((end - index) / (end - start + 1), 0.0, 1.0)
        return jnp.where(index < start, 1.0, jnp.where(index < end, self.between(share), 0.0))


@fields.configuration
class Exp(AbstractWeights):
    """c (e^c - 1) / (e - 1)."""

    def between(self, share: Float[Array, "h"]) -> Float[Array, "h"]:
        """See the base class."""
        return share * jnp.expm1(share) / jnp.expm1(1.0)


@fields.configuration
class Linear(AbstractWeights):
    """c."""

    def between(self, share: Float[Array, "h"]) -> Float[Array, "h"]:
        """See the base class."""
        return share


@fields.configuration
class Ones(AbstractWeights):
    """1: the whole overlap counts like what is committed."""

    def between(self, share: Float[Array, "h"]) -> Float[Array, "h"]:
        """See the base class."""
        return jnp.ones_like(share)


@fields.configuration
class Zeros(AbstractWeights):
    """0: only what is committed counts."""

    def between(self, share: Float[Array, "h"]) -> Float[Array, "h"]:
        """See the base class."""
        return jnp.zeros_like(share)
