"""The expert's networks: what they see, how they act."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

FRAMES = 4


class History(NamedTuple):
    """What an expert remembers of an episode (the benchmark's protocol, arXiv 2506.07339).

    Attributes:
        frames: the last four observations, the latest last; an episode's first fills all four.
        action: the last action taken, zero at an episode's start.
    """

    frames: Float[Array, "f k"]
    action: Float[Array, "a"]


class Network(NamedTuple):
    """Two hidden layers with tanh; the parameters of an actor's mean or of a critic."""

    input: Float[Array, "*n i h"]
    input_bias: Float[Array, "*n h"]
    hidden: Float[Array, "*n h h"]
    hidden_bias: Float[Array, "*n h"]
    output: Float[Array, "*n h o"]
    output_bias: Float[Array, "*n o"]


class Actor(NamedTuple):
    """A Gaussian over actions before they are squashed into their range; the spread does not depend on the input."""

    mean: Network
    log_std: Float[Array, "*n a"]


def select(obs: PyTree[Array], columns: Int[Array, "k"]) -> Float[Array, "k"]:
    """The columns of a flattened observation that an expert reads; a column of -1 reads 0."""
    flat = jnp.concatenate([jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(obs)])
    return jnp.where(columns >= 0, flat[columns], 0.0)


def begin(frame: Float[Array, "k"], action_dim: int) -> History:
    """The history at an episode's start."""
    return History(jnp.tile(frame, (FRAMES, 1)), jnp.zeros(action_dim))


def push(history: History, frame: Float[Array, "k"], action: Float[Array, "a"]) -> History:
    """The history after `action` led to the observation `frame`."""
    return History(jnp.concatenate([history.frames[1:], frame[None]]), action)


def inputs(history: History) -> Float[Array, "i"]:
    """A history as a network's input, i = 4 k + a."""
    return jnp.concatenate([history.frames.ravel(), history.action])


def create_network(key: Key[Array, ""], sizes: tuple[int, int, int], output_scale: float) -> Network:
    """Orthogonal initialisation, gain sqrt(2) in the hidden layers (arXiv 2005.12729), biases 0.

    Args:
        key: of the random matrices.
        sizes: i, h, o.
        output_scale: gain of the last layer.
    """
    first, second, third = jax.random.split(key, 3)
    i, h, o = sizes
    orthogonal = jax.nn.initializers.orthogonal
    return Network(
        input=orthogonal(math.sqrt(2))(first, (i, h)),
        input_bias=jnp.zeros(h),
        hidden=orthogonal(math.sqrt(2))(second, (h, h)),
        hidden_bias=jnp.zeros(h),
        output=orthogonal(output_scale)(third, (h, o)),
        output_bias=jnp.zeros(o),
    )


def create_actor(key: Key[Array, ""], sizes: tuple[int, int, int]) -> Actor:
    """An actor that starts near the middle of every action's range, with standard deviation 1 before squashing."""
    return Actor(create_network(key, sizes, output_scale=0.01), jnp.zeros(sizes[2]))


def apply(network: Network, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
    """The network's output."""
    x = jnp.tanh(x @ network.input + network.input_bias)
    x = jnp.tanh(x @ network.hidden + network.hidden_bias)
    return x @ network.output + network.output_bias


def squash(u: Float[Array, "*b a"], low: tuple[float, ...], high: tuple[float, ...]) -> Float[Array, "*b a"]:
    """Real numbers into each action's range: tanh where it is symmetric (motors), sigmoid elsewhere (thrusters)."""
    bottom, top = jnp.asarray(low), jnp.asarray(high)
    return jnp.where(bottom == -top, top * jnp.tanh(u), bottom + (top - bottom) * jax.nn.sigmoid(u))
