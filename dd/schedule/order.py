"""In which order masked tokens are committed."""

import abc

import jax.numpy as jnp
from jaxtyping import Array, Float

from dd import fields


class AbstractOrder(abc.ABC):
    """A score for every entry; the highest are committed first."""

    @abc.abstractmethod
    def __call__(
        self, confidence: Float[Array, "h a"], temperature: Float[Array, ""] | float, noise: Float[Array, "h a"]
    ) -> Float[Array, "h a"]:
        """The scores.

        Args:
            confidence: log p of the token that each entry has drawn.
            temperature: of the choice, annealed.
            noise: standard Gumbel.
        """


@fields.configuration
class Confidence(AbstractOrder):
    """The sure ones first, with noise: adding Gumbel noise draws without replacement, weights p^(1 / temperature)."""

    def __call__(
        self, confidence: Float[Array, "h a"], temperature: Float[Array, ""] | float, noise: Float[Array, "h a"]
    ) -> Float[Array, "h a"]:
        """See the base class."""
        return confidence + temperature * noise


@fields.configuration
class Random(AbstractOrder):
    """Every order alike: with the exact denoiser and one token a step, samples follow the data's distribution."""

    def __call__(
        self, confidence: Float[Array, "h a"], temperature: Float[Array, ""] | float, noise: Float[Array, "h a"]
    ) -> Float[Array, "h a"]:
        """See the base class."""
        return noise + jnp.zeros_like(confidence)
