"""The mixer built the plain way: nnx layers on [b, h, c], the observation repeated for every token, tokens transposed.

The reference for speed (`tests.benchmarks.train`) and for values (tests/model): `parameters` pairs its parameters, or
the gradients by them, with those of the network under test.
"""

from collections.abc import Iterator

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from dd.model.mixer import Mixer, MixerNetwork


class PlainBlock(nnx.Module):
    """Token mixing on the transposed axes, then channel mixing."""

    def __init__(self, sizes: Mixer, chunk: int, rngs: nnx.Rngs):
        c, hidden = sizes.channel_dim, sizes.channel_hidden_dim
        self.norm_1, self.norm_2 = nnx.LayerNorm(c, rngs=rngs), nnx.LayerNorm(c, rngs=rngs)
        self.token_in = nnx.Linear(chunk, sizes.token_hidden_dim, use_bias=False, rngs=rngs)
        self.token_out = nnx.Linear(sizes.token_hidden_dim, chunk, use_bias=False, rngs=rngs)
        self.channel_in = nnx.Linear(c, hidden, use_bias=False, rngs=rngs)
        self.channel_out = nnx.Linear(hidden, c, use_bias=False, rngs=rngs)

    def __call__(self, x: Float[Array, "b h c"]) -> Float[Array, "b h c"]:
        y = jnp.swapaxes(self.norm_1(x), 1, 2)
        x = x + jnp.swapaxes(self.token_out(nnx.gelu(self.token_in(y))), 1, 2)
        return x + self.channel_out(nnx.gelu(self.channel_in(self.norm_2(x))))


class PlainMixer(nnx.Module):
    """Tokens in, logits out, without time; holds the parameters of `network`."""

    def __init__(self, sizes: Mixer, network: MixerNetwork):
        rngs = nnx.Rngs(0)
        action_dim, in_vocab, c = network.action_in.table.shape
        chunk = network.branches[0].mixing.narrow.shape[1]
        self.obs_in = nnx.Linear(network.obs_in.kernel.shape[0], c, rngs=rngs)
        self.embed = nnx.Embed(action_dim * in_vocab, c, rngs=rngs)
        self.blocks = nnx.List(PlainBlock(sizes, chunk, rngs) for _ in range(sizes.num_layers))
        self.norm = nnx.LayerNorm(c, rngs=rngs)
        self.out = nnx.Linear(c, network.out.kernel.shape[1], rngs=rngs)
        self.in_vocab = in_vocab
        for _, parameter, value in parameters(self, network):
            parameter[...] = value

    def __call__(self, obs: Float[Array, "b o"], x: Int[Array, "b h a"]) -> Float[Array, "b h a v"]:
        b, h, a = x.shape
        repeated = jnp.broadcast_to(obs[:, None], (b, h, obs.shape[-1]))
        y = self.obs_in(repeated) + self.embed(x + self.in_vocab * jnp.arange(a)).sum(axis=-2)
        for block in self.blocks:
            y = block(y)
        return self.out(self.norm(y)).reshape(b, h, a, -1)


def parameters(plain: PlainMixer, network: MixerNetwork) -> Iterator[tuple[str, nnx.Param, Array]]:
    """Name, parameter of `plain`, and the value in `network` of the same meaning, brought to the same shape."""
    yield "obs_in.kernel", plain.obs_in.kernel, network.obs_in.kernel[...]
    yield "obs_in.bias", plain.obs_in.bias, network.obs_in.bias[...]
    yield "embed", plain.embed.embedding, network.action_in.table[...].reshape(plain.embed.embedding.shape)
    for i, block in enumerate(plain.blocks):
        tokens, channels = network.branches[2 * i : 2 * i + 2]
        yield f"{i}.norm_1.scale", block.norm_1.scale, tokens.norm.scale[...]
        yield f"{i}.norm_1.bias", block.norm_1.bias, tokens.norm.shift[...]
        yield f"{i}.token_in", block.token_in.kernel, tokens.mixing.widen[...].T
        yield f"{i}.token_out", block.token_out.kernel, tokens.mixing.narrow[...]
        yield f"{i}.norm_2.scale", block.norm_2.scale, channels.norm.scale[...]
        yield f"{i}.norm_2.bias", block.norm_2.bias, channels.norm.shift[...]
        yield f"{i}.channel_in", block.channel_in.kernel, channels.mixing.widen[...]
        yield f"{i}.channel_out", block.channel_out.kernel, channels.mixing.narrow[...]
    yield "norm.scale", plain.norm.scale, network.norm.scale[...]
    yield "norm.bias", plain.norm.bias, network.norm.shift[...]
    yield "out.kernel", plain.out.kernel, network.out.kernel[...]
    yield "out.bias", plain.out.bias, network.out.bias[...]
