"""The mixer's layers, on activations laid out [h, b, c]: time step of the chunk, batch, channel.

With h first both mixings are two-dimensional products on a free reshape: channels mix on the right of [h b, c], tokens
on the left of [h, b c], and nothing is ever transposed. Backward passes are written out where that saves memory
traffic, so the network has reverse-mode derivatives only.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

EPSILON = 1e-6
SHORTEST_PERIOD = 4e-3
LONGEST_PERIOD = 4.0

lecun_normal = nnx.initializers.lecun_normal()


@jax.custom_vjp
def gelu(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """GELU in its tanh form, u sigmoid(2 sqrt(2/pi) (u + 0.044715 u^3)) (arXiv 1606.08415)."""
    return u * _gate(u)


def _gate(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return 0.5 + 0.5 * jnp.tanh(math.sqrt(2 / math.pi) * u * (1 + 0.044715 * u * u))


def gelu_slope(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The derivative of `gelu`."""
    gate = _gate(u)
    return gate + 2 * math.sqrt(2 / math.pi) * u * gate * (1 - gate) * (1 + 3 * 0.044715 * u * u)


# Only u is kept for the backward pass: computing tanh again is cheaper than writing it out and reading it back.
gelu.defvjp(lambda u: (gelu(u), u), lambda u, dy: (dy * gelu_slope(u),))


class ChannelMixing(nnx.Module):
    """MLP over the channels, alike for every token (MLP-Mixer, arXiv 2105.01601, eq. 1)."""

    def __init__(self, channels: int, hidden: int, *, rngs: nnx.Rngs):
        self.widen = nnx.Param(lecun_normal(rngs.params(), (channels, hidden)))
        self.narrow = nnx.Param(lecun_normal(rngs.params(), (hidden, channels)))

    def __call__(self, x: Float[Array, "h b c"]) -> Float[Array, "h b c"]:
        """Mix along c."""
        rows = x.reshape(-1, x.shape[-1])
        return (gelu(rows @ self.widen[...]) @ self.narrow[...]).reshape(x.shape)


@jax.custom_vjp
def standardize(x: Float[Array, "*rows c"]) -> Float[Array, "*rows c"]:
    """Zero mean and unit variance over the last axis (layer norm, arXiv 1607.06450, without scale and shift)."""
    return _standardize(x)[0]


def _standardize(x: Float[Array, "*rows c"]) -> tuple[Float[Array, "*rows c"], tuple[Array, Array, Array]]:
    mean = _mean(x)
    inverse = jax.lax.rsqrt(_mean(jnp.square(x - mean)) + EPSILON)
    return (x - mean) * inverse, (x, mean, inverse)


def _standardize_backward(saved: tuple[Array, Array, Array], dy: Float[Array, "*rows c"]) -> tuple[Array]:
    x, mean, inverse = saved
    y = (x - mean) * inverse
    return (inverse * (dy - _mean(dy) - y * _mean(dy * y)),)


def _mean(x: Float[Array, "*rows c"]) -> Float[Array, "*rows 1"]:
    # As a product with a vector, in full precision: XLA's own sum over the last axis is several times slower on a CPU.
    weights = jnp.full((x.shape[-1], 1), 1 / x.shape[-1], x.dtype)
    return jnp.matmul(x, weights, precision=jax.lax.Precision.HIGHEST)


standardize.defvjp(_standardize, _standardize_backward)


class Norm(nnx.Module):
    """Layer norm with a learned scale and shift."""

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.shift = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "h b c"], time: None) -> Float[Array, "h b c"]:
        """Normalise over c."""
        return standardize(x) * self.scale[...] + self.shift[...]


class TimedNorm(nnx.Module):
    """Layer norm whose scale and shift follow the time (adaLN, arXiv 2212.09748); a plain norm at initialisation."""

    def __init__(self, channels: int):
        self.scale = zero_linear(channels)
        self.shift = zero_linear(channels)

    def __call__(self, x: Float[Array, "h b c"], time: Float[Array, "#h #b c"]) -> Float[Array, "h b c"]:
        """Normalise over c."""
        return standardize(x) * (1 + self.scale(time)) + self.shift(time)


def zero_linear(channels: int) -> nnx.Linear:
    """A linear layer that gives zeros until it is trained."""
    zeros = nnx.initializers.zeros_init()
    return nnx.Linear(channels, channels, kernel_init=zeros, bias_init=zeros, rngs=nnx.Rngs(0))


class TimeEmbedding(nnx.Module):
    """Sines and cosines of t at geometrically spaced periods, then a two-layer MLP with swish."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.inner = nnx.Linear(channels, channels, rngs=rngs)
        self.outer = nnx.Linear(channels, channels, rngs=rngs)
        self.channels = channels

    def __call__(self, t: Float[Array, "h b"]) -> Float[Array, "h b c"]:
        """Embed each token's time."""
        rows = sinusoid(t.reshape(-1), self.channels)
        return nnx.swish(self.outer(nnx.swish(self.inner(rows)))).reshape(*t.shape, self.channels)


def sinusoid(t: Float[Array, "n"], channels: int) -> Float[Array, "n c"]:
    """Sine and cosine of 2 pi t / period, periods geometric between `SHORTEST_PERIOD` and `LONGEST_PERIOD`."""
    # In numpy's float64: at 1,570 radians float32 powers would be off by 1e-3.
    frequencies = 2 * math.pi / np.geomspace(SHORTEST_PERIOD, LONGEST_PERIOD, channels // 2)
    angle = t[:, None] * frequencies.astype(np.float32)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class TokenEmbedding(nnx.Module):
    """One row per action dimension and class, summed over the dimensions: a linear layer on concatenated one-hots.

    a of the one-hots' entries are set, so rows of variance 1/a give embeddings of variance 1.
    """

    def __init__(self, action_dim: int, vocab: int, channels: int, *, rngs: nnx.Rngs):
        spread = 1 / math.sqrt(action_dim)
        self.table = nnx.Param(spread * jax.random.normal(rngs.params(), (action_dim, vocab, channels)))

    def __call__(self, x: Int[Array, "h b a"]) -> Float[Array, "h b c"]:
        """Embed each action."""
        # One gather per dimension: the gradient of one over all would first be repeated for each dimension.
        return sum(table[x[..., i]] for i, table in enumerate(self.table[...]))
