"""How predictions are scored: sums and counts, so that batches of any size pool exactly."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def pooled(values: Float[Array, "b h a"], where: Bool[Array, "b h #a"]) -> Float[Array, "2"]:
    """Sum and count of the values `where`."""
    where = jnp.broadcast_to(where, values.shape)
    return jnp.stack([jnp.where(where, values, 0.0).sum(), where.sum().astype(jnp.float32)])


def mean(pair: Float[Array, "2"]) -> Float[Array, ""]:
    """Of a sum and a count; 0 where there is nothing."""
    return pair[0] / jnp.maximum(pair[1], 1.0)


def cross_entropy(logits: Float[Array, "b h a v"], x: Int[Array, "b h a"]) -> Float[Array, "b h a"]:
    """-log p(x)."""
    # logsumexp minus the target's logit: the one-hot and the full log-softmax are never formed.
    target = jnp.take_along_axis(logits, x[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - target


def right(logits: Float[Array, "b h a v"], x: Int[Array, "b h a"]) -> Float[Array, "b h a"]:
    """1 where the likeliest token is x."""
    return (logits.argmax(-1) == x).astype(jnp.float32)


def apart(logits: Float[Array, "b h a v"], x: Int[Array, "b h a"]) -> Float[Array, "b h a"]:
    """|E[c] - c_x|, the expected bin centre against the token's own, in units of half the action range."""
    bins = logits.shape[-1]
    centres = (2.0 * jnp.arange(bins) + 1.0) / bins - 1.0
    return jnp.abs(jax.nn.softmax(logits) @ centres - centres[x])
