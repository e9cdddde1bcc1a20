"""An MLP-mixer over the actions of a chunk."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from dd import fields
from dd.errors import UserError
from dd.model import layers
from dd.model.base import AbstractBackbone, AbstractModel
from dd.model.token_mixing import TokenMixing


@fields.configuration
class Mixer(AbstractModel):
    """MLP-Mixer (arXiv 2105.01601) whose tokens are the h noisy actions of a chunk.

    A token starts as W_obs obs + W_x x_h + bias: the linear layer of the real-time-chunking benchmark (arXiv
    2506.07339) on the observation concatenated with the noisy action, the observation's part computed once per chunk.
    """

    num_layers: int = fields.field(4, ge=1)
    channel_dim: int = fields.field(256, ge=2)
    channel_hidden_dim: int = fields.field(512, ge=1)
    token_hidden_dim: int = fields.field(64, ge=1)

    def create(
        self,
        *,
        obs: PyTree[jax.ShapeDtypeStruct],
        chunk: int,
        action_dim: int,
        in_vocab: int | None,
        out_vocab: int | None,
        timed: bool,
        rngs: nnx.Rngs,
    ) -> "MixerNetwork":
        """Initialise the network; see `AbstractModel.create`.

        Raises:
            UserError: the observation is not one vector, or `channel_dim` is odd with a time to embed.
        """
        if not isinstance(obs, jax.ShapeDtypeStruct) or len(obs.shape) != 1:
            raise UserError(f"obs={obs}: model=mixer reads one vector; choose an env whose observation is a vector.")
        if timed and self.channel_dim % 2:
            raise UserError(f"model.channel_dim={self.channel_dim}: must be even, for the time's sines and cosines.")
        return MixerNetwork(
            self,
            obs_dim=obs.shape[0],
            chunk=chunk,
            action_dim=action_dim,
            in_vocab=in_vocab,
            out_vocab=out_vocab,
            timed=timed,
            rngs=rngs,
        )


class Branch(nnx.Module):
    """Norm, mixing, and back onto the input; with a time, through a gate that is 0 at initialisation (adaLN-zero)."""

    def __init__(self, mixing: nnx.Module, channels: int, *, timed: bool):
        self.norm = layers.TimedNorm(channels) if timed else layers.Norm(channels)
        self.mixing = mixing
        self.gate = layers.zero_linear(channels) if timed else None

    def __call__(self, x: Float[Array, "h b c"], time: Float[Array, "#h #b c"] | None) -> Float[Array, "h b c"]:
        """x plus its mixed self."""
        mixed = self.mixing(self.norm(x, time))
        return x + (mixed if self.gate is None else self.gate(time) * mixed)


class MixerNetwork(AbstractBackbone):
    """The network of a `Mixer`; activations are [h, b, c] (see `layers`)."""

    def __init__(
        self,
        sizes: Mixer,
        *,
        obs_dim: int,
        chunk: int,
        action_dim: int,
        in_vocab: int | None,
        out_vocab: int | None,
        timed: bool,
        rngs: nnx.Rngs,
    ):
        channels = sizes.channel_dim
        self.obs_in = nnx.Linear(obs_dim, channels, rngs=rngs)
        if in_vocab is None:
            self.action_in = nnx.Linear(action_dim, channels, use_bias=False, rngs=rngs)
        else:
            self.action_in = layers.TokenEmbedding(action_dim, in_vocab, channels, rngs=rngs)
        self.time_in = layers.TimeEmbedding(channels, rngs=rngs) if timed else None
        branches = []
        for _ in range(sizes.num_layers):
            for mixing in (
                TokenMixing(chunk, sizes.token_hidden_dim, rngs=rngs),
                layers.ChannelMixing(channels, sizes.channel_hidden_dim, rngs=rngs),
            ):
                branches.append(Branch(mixing, channels, timed=timed))
        self.branches = nnx.List(branches)
        self.norm = layers.TimedNorm(channels) if timed else layers.Norm(channels)
        self.out = nnx.Linear(channels, action_dim * (out_vocab or 1), rngs=rngs)
        self.out_shape = (action_dim,) if out_vocab is None else (action_dim, out_vocab)

    def encode(self, obs: Float[Array, "b o"]) -> Float[Array, "b c"]:
        """The observation's part of the first linear layer, equal for every token."""
        return self.obs_in(obs)

    def denoise(
        self,
        condition: Float[Array, "b c"],
        x: Int[Array, "b h a"] | Float[Array, "b h a"],
        t: Float[Array, "#b #h"] | None,
    ) -> Float[Array, "b h a v"] | Float[Array, "b h a"]:
        """Noisy chunk to logits or values; `t` is None for a network made without time."""
        # The barrier keeps XLA from looking the tokens up anew in each of the places that read y.
        y = jax.lax.optimization_barrier(condition + self.action_in(jnp.swapaxes(x, 0, 1)))
        time = None if self.time_in is None else self.time_in(t.T)
        for branch in self.branches:
            y = branch(y, time)
        rows = self.norm(y, time).reshape(-1, y.shape[-1])
        return jnp.swapaxes(self.out(rows).reshape(*y.shape[:2], *self.out_shape), 0, 1)
