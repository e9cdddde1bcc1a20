"""The mixer built the plain way: nnx layers on [b, h, c], the observation in every token, tokens transposed.

The reference for speed (`tests.benchmarks.train`, `tests.benchmarks.decode`) and for values (tests/model): `parameters`
pairs its parameters, or the gradients by them, with those of the network under test.
"""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from dd.model import layers
from dd.model.base import AbstractBackbone, AbstractModel
from dd.model.mixer import Mixer, MixerNetwork


class PlainNorm(nnx.Module):
    """nnx.LayerNorm; with a time, scale and shift, and the gate of what follows, are a linear layer's (adaLN-zero)."""

    def __init__(self, channels: int, *, timed: bool, gated: bool, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(channels, use_scale=not timed, use_bias=not timed, rngs=rngs)
        self.parts = 3 if gated else 2
        self.modulation = nnx.Linear(channels, self.parts * channels, rngs=rngs) if timed else None

    def __call__(
        self, x: Float[Array, "b h c"], time: Float[Array, "b #h c"] | None
    ) -> tuple[Float[Array, "b h c"], Float[Array, "b #h c"] | float]:
        """Normalised over c, and the gate."""
        if self.modulation is None:
            return self.norm(x), 1.0
        scale, shift, *gate = jnp.split(self.modulation(time), self.parts, axis=-1)
        return self.norm(x) * (1 + scale) + shift, gate[0] if gate else 1.0


class PlainBlock(nnx.Module):
    """Token mixing on the transposed axes, then channel mixing."""

    def __init__(self, sizes: Mixer, chunk: int, *, timed: bool, rngs: nnx.Rngs):
        c, hidden = sizes.channel_dim, sizes.channel_hidden_dim
        self.norm_1 = PlainNorm(c, timed=timed, gated=True, rngs=rngs)
        self.token_in = nnx.Linear(chunk, sizes.token_hidden_dim, use_bias=False, rngs=rngs)
        self.token_out = nnx.Linear(sizes.token_hidden_dim, chunk, use_bias=False, rngs=rngs)
        self.norm_2 = PlainNorm(c, timed=timed, gated=True, rngs=rngs)
        self.channel_in = nnx.Linear(c, hidden, use_bias=False, rngs=rngs)
        self.channel_out = nnx.Linear(hidden, c, use_bias=False, rngs=rngs)

    def __call__(self, x: Float[Array, "b h c"], time: Float[Array, "b #h c"] | None) -> Float[Array, "b h c"]:
        y, gate = self.norm_1(x, time)
        x = x + gate * jnp.swapaxes(self.token_out(nnx.gelu(self.token_in(jnp.swapaxes(y, 1, 2)))), 1, 2)
        y, gate = self.norm_2(x, time)
        return x + gate * self.channel_out(nnx.gelu(self.channel_in(y)))


class PlainTime(nnx.Module):
    """Sines and cosines through two linear layers."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.inner = nnx.Linear(channels, channels, rngs=rngs)
        self.outer = nnx.Linear(channels, channels, rngs=rngs)
        self.channels = channels

    def __call__(self, t: Float[Array, "b #h"]) -> Float[Array, "b #h c"]:
        waves = layers.sinusoid(t.reshape(-1), self.channels).reshape(*t.shape, self.channels)
        return nnx.swish(self.outer(nnx.swish(self.inner(waves))))


class PlainMixer(AbstractBackbone):
    """The network of a `PlainModel`."""

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
        frugal: bool,
        rngs: nnx.Rngs,
    ):
        c = sizes.channel_dim
        action_width = action_dim * (in_vocab or 1)
        looked_up = frugal and in_vocab is not None
        self.first = nnx.Linear(obs_dim + (0 if looked_up else action_width), c, rngs=rngs)
        self.embed = nnx.Embed(action_width, c, rngs=rngs) if looked_up else None
        self.time_in = PlainTime(c, rngs=rngs) if timed else None
        self.blocks = nnx.List(PlainBlock(sizes, chunk, timed=timed, rngs=rngs) for _ in range(sizes.num_layers))
        self.norm = PlainNorm(c, timed=timed, gated=False, rngs=rngs)
        self.out = nnx.Linear(c, action_dim * (out_vocab or 1), rngs=rngs)
        self.in_vocab, self.frugal = in_vocab, frugal
        self.out_shape = (action_dim,) if out_vocab is None else (action_dim, out_vocab)

    def encode(self, obs: Float[Array, "b o"]) -> Float[Array, "b o"]:
        """The observation itself: nothing is computed ahead of the steps."""
        return obs

    def denoise(
        self,
        condition: Float[Array, "b o"],
        x: Int[Array, "b h a"] | Float[Array, "b h a"],
        t: Float[Array, "#b #h"] | None,
    ) -> Float[Array, "b h a v"] | Float[Array, "b h a"]:
        """Noisy chunk to logits or values."""
        b, h, a = x.shape
        obs = jnp.broadcast_to(condition[:, None], (b, h, condition.shape[-1]))
        if self.embed is not None:
            y = self.first(obs) + self.embed(x + self.in_vocab * jnp.arange(a)).sum(axis=-2)
        else:
            values = x if self.in_vocab is None else jax.nn.one_hot(x, self.in_vocab).reshape(b, h, -1)
            y = self.first(jnp.concatenate([obs, values], axis=-1))
        time = None
        if self.time_in is not None:
            time = self.time_in(jnp.broadcast_to(t, (b, t.shape[1] if self.frugal else h)))
        for block in self.blocks:
            y = block(y, time)
        return self.out(self.norm(y, time)[0]).reshape(b, h, *self.out_shape)


@dataclasses.dataclass(frozen=True)
class PlainModel(AbstractModel):
    """A `Mixer` built of `PlainMixer`'s layers.

    Attributes:
        sizes: of the mixer.
        frugal: the first layer looks tokens up in a table and adds the observation's part, which XLA then takes out of
            the sampling loop; a time that all of a chunk's tokens share runs through its layers once for the chunk. If
            not, the first layer reads the observation concatenated with one-hots, and each token has its own time.
    """

    sizes: Mixer
    frugal: bool = False

    def create(self, *, obs: jax.ShapeDtypeStruct, **shape) -> PlainMixer:
        """See `AbstractModel.create`."""
        return PlainMixer(self.sizes, obs_dim=obs.shape[0], frugal=self.frugal, **shape)


def adopt(plain: PlainMixer, network: MixerNetwork) -> None:
    """Give `plain` the parameters of `network`."""
    for _, parameter, value in parameters(plain, network):
        parameter[...] = value


def parameters(plain: PlainMixer, network: MixerNetwork) -> Iterator[tuple[str, nnx.Param, Array]]:
    """Name, parameter of `plain`, and the value in `network` of the same meaning, brought to the same shape."""
    obs, actions = network.obs_in.kernel[...], network.action_in
    rows = actions.kernel[...] if plain.in_vocab is None else actions.table[...].reshape(-1, obs.shape[1])
    if plain.embed is None:
        yield "first.kernel", plain.first.kernel, jnp.concatenate([obs, rows])
    else:
        yield "first.kernel", plain.first.kernel, obs
        yield "embed", plain.embed.embedding, rows
    yield "first.bias", plain.first.bias, network.obs_in.bias[...]
    if plain.time_in is not None:
        for name in ("inner", "outer"):
            yield from _linear(f"time.{name}", getattr(plain.time_in, name), getattr(network.time_in, name))
    for i, block in enumerate(plain.blocks):
        tokens, channels = network.branches[2 * i : 2 * i + 2]
        yield from _norm(f"{i}.norm_1", block.norm_1, tokens.norm, tokens.gate)
        yield f"{i}.token_in", block.token_in.kernel, tokens.mixing.widen[...].T
        yield f"{i}.token_out", block.token_out.kernel, tokens.mixing.narrow[...]
        yield from _norm(f"{i}.norm_2", block.norm_2, channels.norm, channels.gate)
        yield f"{i}.channel_in", block.channel_in.kernel, channels.mixing.widen[...]
        yield f"{i}.channel_out", block.channel_out.kernel, channels.mixing.narrow[...]
    yield from _norm("norm", plain.norm, network.norm, None)
    yield from _linear("out", plain.out, network.out)


def _linear(name: str, plain: nnx.Linear, *linears: nnx.Linear) -> Iterator[tuple[str, nnx.Param, Array]]:
    """Several linear layers side by side are one."""
    yield f"{name}.kernel", plain.kernel, jnp.concatenate([one.kernel[...] for one in linears], axis=-1)
    yield f"{name}.bias", plain.bias, jnp.concatenate([one.bias[...] for one in linears])


def _norm(
    name: str, plain: PlainNorm, norm: layers.Norm | layers.TimedNorm, gate: nnx.Linear | None
) -> Iterator[tuple[str, nnx.Param, Array]]:
    if plain.modulation is not None:
        yield from _linear(name, plain.modulation, norm.scale, norm.shift, *([] if gate is None else [gate]))
    else:
        yield f"{name}.scale", plain.norm.scale, norm.scale[...]
        yield f"{name}.bias", plain.norm.bias, norm.shift[...]
