"""Vectors in the plane: x and y on the last axis but one, so that the last can be worlds side by side (`worlds`)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def dot(a: Float[Array, "*#c 2 #w"], b: Float[Array, "*#c 2 #w"]) -> Float[Array, "*c w"]:
    """The scalar product."""
    return a[..., 0, :] * b[..., 0, :] + a[..., 1, :] * b[..., 1, :]


def cross(a: Float[Array, "*#c 2 #w"], b: Float[Array, "*#c 2 #w"]) -> Float[Array, "*c w"]:
    """The third component of the vector product."""
    return a[..., 0, :] * b[..., 1, :] - a[..., 1, :] * b[..., 0, :]


def turned(
    a: Float[Array, "*#c 2 #w"], cos: Float[Array, "*#c #w"], sin: Float[Array, "*#c #w"]
) -> Float[Array, "*c 2 w"]:
    """Vectors turned by the angle of this cosine and sine."""
    x, y = a[..., 0, :], a[..., 1, :]
    return jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-2)


def swept(angular: Float[Array, "*#c #w"], arm: Float[Array, "*#c 2 #w"]) -> Float[Array, "*c 2 w"]:
    """The velocity that turning gives the end of an arm."""
    return angular[..., None, :] * jnp.stack([-arm[..., 1, :], arm[..., 0, :]], axis=-2)
