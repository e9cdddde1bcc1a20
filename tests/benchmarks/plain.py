"""The mixer built the plain way: nnx layers on [b, h, c], the observation repeated for every token, tokens transposed.

It is the reference of `tests.benchmarks.train` and of tests/model, and holds the same parameters as the network it is made from.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from dd.model.mixer import Mixer, MixerNetwork


class PlainBlock(nnx.Module):
    """Token mixing on the transposed axes, then channel mixing."""

    def __init__(self, sizes: Mixer, chunk: int, rngs: nnx.Rngs):
        c, linear = sizes.channel_dim, nnx.Linear
        self.norm_1, self.norm_2 = nnx.LayerNorm(c, rngs=rngs), nnx.LayerNorm(c, rngs=rngs)
        self.token_in = linear(chunk, sizes.token_hidden_dim, use_bias=False, rngs=rngs)
        self.token_out = linear(sizes.token_hidden_dim, chunk, use_bias=False, rngs=rngs)
        self.channel_in = linear(c, sizes.channel_hidden_dim, use_bias=False, rngs=rngs)
        self.channel_out = linear(sizes.channel_hidden_dim, c, use_bias=False, rngs=rngs)

    def __call__(self, x: Float[Array, "b h c"]) -> Float[Array, "b h c"]:
        y = jnp.swapaxes(self.norm_1(x), 1, 2)
        x = x + jnp.swapaxes(self.token_out(nnx.gelu(self.token_in(y))), 1, 2)
        return x + self.channel_out(nnx.gelu(self.channel_in(self.norm_2(x))))


class PlainMixer(nnx.Module):
    """Tokens in, logits out, without time."""

    def __init__(self, sizes: Mixer, *, obs_dim: int, chunk: int, action_dim: int, in_vocab: int, out_vocab: int):
        rngs = nnx.Rngs(0)
        c = sizes.channel_dim
        self.obs_in = nnx.Linear(obs_dim, c, rngs=rngs)
        self.embed = nnx.Embed(action_dim * in_vocab, c, rngs=rngs)
        self.blocks = nnx.List(PlainBlock(sizes, chunk, rngs) for _ in range(sizes.num_layers))
        self.norm = nnx.LayerNorm(c, rngs=rngs)
        self.out = nnx.Linear(c, action_dim * out_vocab, rngs=rngs)
        self.in_vocab, self.out_vocab = in_vocab, out_vocab

    def __call__(self, obs: Float[Array, "b o"], x: Int[Array, "b h a"]) -> Float[Array, "b h a v"]:
        b, h, a = x.shape
        repeated = jnp.broadcast_to(obs[:, None], (b, h, obs.shape[-1]))
        y = self.obs_in(repeated) + self.embed(x + self.in_vocab * jnp.arange(a)).sum(axis=-2)
        for block in self.blocks:
            y = block(y)
        return self.out(self.norm(y)).reshape(b, h, a, self.out_vocab)
