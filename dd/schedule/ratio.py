"""Masked fractions gamma(t): t = 0 is all masked, t = 1 is data."""

import abc

import jax.numpy as jnp
from jaxtyping import Array, Float

from dd import fields


class AbstractRatio(abc.ABC):
    """A decreasing map from time to the masked fraction, gamma(0) = 1 and gamma(1) = 0."""

    @abc.abstractmethod
    def __call__(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """gamma(t)."""


@fields.configuration
class Cosine(AbstractRatio):
    """gamma(t) = cos(pi t / 2), mean 2/pi: most inputs are mostly masked (MaskGIT, arXiv 2202.04200, sec. 3.3)."""

    def __call__(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """gamma(t)."""
        return jnp.cos(0.5 * jnp.pi * t)


@fields.configuration
class Linear(AbstractRatio):
    """gamma(t) = 1 - t: every masked fraction equally often."""

    def __call__(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """gamma(t)."""
        return 1.0 - t


@fields.configuration
class OneMinusCosine(AbstractRatio):
    """gamma(t) = 1 - cos(pi (1 - t) / 2), mean 1 - 2/pi: nearly-all-masked inputs, a decode's first step, are rare.

    A control arm: what public code of the real-time-chunking benchmark trains with in place of `Cosine`.
    """

    def __call__(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """gamma(t)."""
        return 1.0 - jnp.cos(0.5 * jnp.pi * (1.0 - t))


@fields.configuration
class HalfCosine(AbstractRatio):
    """gamma(t) = (1 + cos(pi t)) / 2: few tokens are committed at the beginning and at the end.

    A control arm: what public code of the real-time-chunking benchmark decodes with in place of `Cosine`.
    """

    def __call__(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """gamma(t)."""
        return 0.5 * (1.0 + jnp.cos(jnp.pi * t))
