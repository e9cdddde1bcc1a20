"""Flow matching on the linear path, and Euler's method."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from dd import fields
from dd.schedule import scores
from dd.schedule.base import AbstractContinuousProcess, AbstractSampler, Denoise


class FlowState(NamedTuple):
    """A chunk on its way from noise to data.

    Attributes:
        x: float32 [h, a].
        known: bool [h], entries that were imposed: they stand still.
    """

    x: Float[Array, "h a"]
    known: Bool[Array, "h"]


@fields.configuration
class Euler(AbstractSampler):
    """x + (t' - t) v(x, t)."""

    def step(
        self,
        process: "Flow",
        key: Key[Array, ""],
        state: FlowState,
        prediction: Float[Array, "h a"],
        t: Float[Array, ""],
        t_next: Float[Array, ""],
    ) -> FlowState:
        """One reverse step; `prediction` is the velocity. The key is not used."""
        moved = state.x + (t_next - t) * prediction
        return state._replace(x=jnp.where(state.known[:, None], state.x, moved))


@fields.configuration
class Flow(AbstractContinuousProcess):
    r"""Velocity regression on the linear path (flow matching, arXiv 2210.02747; rectified flow, arXiv 2209.03003).

    x_t = (1 - t) noise + t x with noise ~ N(0, 1) and t ~ U(0, 1); the network is asked for x - noise, loss: mean
    squared error. Actions are taken as they are, as in the real-time-chunking benchmark (arXiv 2506.07339).
    """

    sampler: ClassVar[type[AbstractSampler]] = Euler
    timed: ClassVar[bool] = True
    in_vocab: ClassVar[None] = None
    out_vocab: ClassVar[None] = None

    def encode(
        self, actions: Float[Array, "*b a"], low: tuple[float, ...], high: tuple[float, ...]
    ) -> Float[Array, "*b a"]:
        """The actions."""
        return actions

    def decode(self, x: Float[Array, "*b a"], low: tuple[float, ...], high: tuple[float, ...]) -> Float[Array, "*b a"]:
        """The actions; they may lie beyond the range, which the world clips."""
        return x

    def loss(
        self, key: Key[Array, ""], x: Float[Array, "b h a"], kept: Bool[Array, "b h"], denoise: Denoise
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Mean squared error of the velocity; metrics: loss."""
        time_key, noise_key = jax.random.split(key)
        t = jnp.where(kept, 1.0, jax.random.uniform(time_key, (x.shape[0], 1)))
        noise = jax.random.normal(noise_key, x.shape)
        noisy = (1.0 - t)[..., None] * noise + t[..., None] * x
        error = jnp.square(denoise(noisy, t) - (x - noise))
        metrics = {"loss": scores.pooled(error, ~kept[..., None])}
        return scores.mean(metrics["loss"]), metrics

    def prior(self, key: Key[Array, ""], chunk: int, action_dim: int) -> FlowState:
        """N(0, 1)."""
        return FlowState(jax.random.normal(key, (chunk, action_dim)), jnp.zeros(chunk, bool))

    def impose(self, state: FlowState, x: Float[Array, "h a"], where: Bool[Array, "h"]) -> FlowState:
        """Entries `where` are those of x."""
        return FlowState(jnp.where(where[:, None], x, state.x), state.known | where)

    def noisy(self, state: FlowState) -> Float[Array, "h a"]:
        """x."""
        return state.x

    def clean(
        self, x: Float[Array, "b h a"], prediction: Float[Array, "b h a"], t: Float[Array, "#b #h"]
    ) -> Float[Array, "b h a"]:
        """x + (1 - t) v: where a straight line leads."""
        return x + (1.0 - t)[..., None] * prediction

    def guided(
        self,
        prediction: Float[Array, "b h a"],
        pull: Float[Array, "b h a"],
        t: Float[Array, "#b #h"],
        limit: Float[Array, ""] | float,
    ) -> Float[Array, "b h a"]:
        r"""v + min(limit, (1 - t) / (t r^2)) pull, with r^2 = (1 - t)^2 / (t^2 + (1 - t)^2).

        At t = 0 the weight is `limit` (arXiv 2506.07339, eq. 2 to 4).
        """
        t = t[..., None]
        weight = jnp.minimum(limit, (t**2 + (1.0 - t) ** 2) / (t * (1.0 - t)))
        return prediction + weight * pull
