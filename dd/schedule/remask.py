r"""Which committed tokens are masked again (ReMDM, arXiv 2503.00307, sec. 4).

In the step from t to t' a committed token is masked again with probability sigma, at most sigma_max = min(1,
(1 - alpha(t')) / alpha(t)), alpha being the share of tokens that are not masked: above it, fewer would be committed
than the schedule asks for. In numbers of tokens, with n committed and m still masked after the step, sigma_max =
min(1, m / n), and as many are masked again as the probabilities sum to, rounded up or down at random so that the mean
is exact.
"""

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dd import fields
from dd.schedule.choice import rank


class AbstractRemask(abc.ABC):
    """How many committed tokens are masked again, and which."""

    strength: float

    @abc.abstractmethod
    def mean(self, most: Float[Array, ""], committed: Int[Array, ""]) -> Float[Array, ""]:
        """How many of n committed tokens are masked again in the mean, given sigma_max."""

    def log_weight(self, confidence: Float[Array, "h a"]) -> Float[Array, "h a"]:
        """How much rather one token than another, by log p when it was committed; all alike."""
        return jnp.zeros_like(confidence)

    def __call__(
        self,
        key: Key[Array, ""],
        confidence: Float[Array, "h a"],
        committed: Bool[Array, "h a"],
        remaining: Int[Array, ""],
    ) -> Bool[Array, "h a"]:
        """The tokens that are masked again.

        Args:
            key: of the draw.
            confidence: log p of each committed token when it was committed.
            committed: entries that may be masked again.
            remaining: m, entries that the schedule wants masked after the step.
        """
        mean = self.mean(_most(committed, remaining), committed.sum())
        return _drawn(key, mean, self.log_weight(confidence), committed, remaining)


@fields.configuration
class Cap(AbstractRemask):
    """sigma = min(strength, sigma_max), every committed token alike (ReMDM-cap)."""

    strength: float = fields.field(0.05, ge=0.0, le=1.0, leaf=True)

    def mean(self, most: Float[Array, ""], committed: Int[Array, ""]) -> Float[Array, ""]:
        """See the base class."""
        return committed * jnp.minimum(self.strength, most)


@fields.configuration
class Rescale(AbstractRemask):
    """sigma = strength sigma_max, every committed token alike (ReMDM-rescale)."""

    strength: float = fields.field(0.05, ge=0.0, le=1.0, leaf=True)

    def mean(self, most: Float[Array, ""], committed: Int[Array, ""]) -> Float[Array, ""]:
        """See the base class."""
        return committed * self.strength * most


@fields.configuration
class Confidence(AbstractRemask):
    """sigma = strength sigma_max softmax(-p), p of each token when it was committed (ReMDM-conf).

    The softmax runs over the committed tokens, so their probabilities sum to at most 1: one token a step at most.
    """

    strength: float = fields.field(0.05, ge=0.0, le=1.0, leaf=True)

    def mean(self, most: Float[Array, ""], committed: Int[Array, ""]) -> Float[Array, ""]:
        """See the base class."""
        return self.strength * most

    def log_weight(self, confidence: Float[Array, "h a"]) -> Float[Array, "h a"]:
        """See the base class."""
        return -jnp.exp(confidence)


def _most(committed: Bool[Array, "h a"], remaining: Int[Array, ""]) -> Float[Array, ""]:
    """sigma_max."""
    return jnp.minimum(1.0, remaining / jnp.maximum(committed.sum(), 1))


def _drawn(
    key: Key[Array, ""],
    mean: Float[Array, ""],
    log_weight: Float[Array, "h a"],
    committed: Bool[Array, "h a"],
    remaining: Int[Array, ""],
) -> Bool[Array, "h a"]:
    """So many of the committed entries in the mean, without replacement by their weights."""
    round_key, choice_key = jax.random.split(key)
    number = jnp.floor(mean + jax.random.uniform(round_key)).astype(jnp.int32)
    number = jnp.minimum(number, jnp.minimum(remaining, committed.sum()))
    score = log_weight + jax.random.gumbel(choice_key, log_weight.shape)  # Gumbel's trick: the highest are the draw
    place = rank(jnp.where(committed, -score, jnp.inf).reshape(-1)).reshape(committed.shape)
    return committed & (place < number)
