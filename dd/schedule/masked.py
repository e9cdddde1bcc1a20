"""Masked (absorbing-state) diffusion over action tokens, and MaskGIT's parallel decoding."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dd import fields
from dd.schedule.base import AbstractSampler, AbstractTokenProcess, Denoise
from dd.schedule.ratio import AbstractRatio, Cosine
from dd.tokens import Bins

_COMPARED = 128  # entries up to which comparing all with all is faster than sorting twice, by up to three times


class MaskedState(NamedTuple):
    """A chunk on its way from all MASK to all tokens.

    Attributes:
        tokens: int32 [h, a], each in 0..v-1 or MASK = v.
        total: int32 [], entries that were MASK before the first step; imposed entries are not among them.
    """

    tokens: Int[Array, "h a"]
    total: Int[Array, ""]


def _rank(values: Float[Array, "*b n"]) -> Int[Array, "*b n"]:
    """The position of each value in ascending order along the last axis; equal ones in their own order."""
    if values.shape[-1] > _COMPARED:
        return jnp.argsort(jnp.argsort(values, axis=-1), axis=-1)
    mine, other = values[..., :, None], values[..., None, :]
    index = jnp.arange(values.shape[-1])
    ahead = (other < mine) | ((other == mine) & (index[None, :] < index[:, None]))
    return ahead.sum(axis=-1, dtype=jnp.int32)


def _draw(key: Key[Array, ""], logits: Float[Array, "*b v"], temperature: Float[Array, ""]) -> Int[Array, "*b"]:
    """x ~ softmax(logits / temperature) along the last axis; at temperature 0 the first of the largest."""
    # The inverse of the distribution function takes one random number where Gumbel's trick takes v.
    above = (logits - logits.max(axis=-1, keepdims=True)) / jnp.maximum(temperature, 1e-6)
    upto = jnp.cumsum(jnp.exp(above), axis=-1)
    # u < 1, but u * total may round to the total: the last bin with any mass is then the one.
    u = jnp.where(temperature > 0, jax.random.uniform(key, logits.shape[:-1]), 0.0)
    threshold = u[..., None] * upto[..., -1:]
    return jnp.sum(upto <= jnp.minimum(threshold, jnp.nextafter(upto[..., -1:], 0.0)), axis=-1, dtype=jnp.int32)


@fields.configuration
class MaskGIT(AbstractSampler):
    r"""Commit the most confident tokens first (MaskGIT, arXiv 2202.04200, sec. 3.2 and its reference implementation).

    In the step from t to t' every masked entry draws a token x ~ softmax(logits / token_temperature). Its confidence is
    log p(x) + choice_temperature (1 - t') g with g ~ Gumbel(0, 1): log-probabilities compare across entries, the noise
    is annealed to 0 with the last step, the highest are committed. floor(gamma(t') total) entries stay masked, at least
    one is committed in every step, and none stays masked at t' = 1. Committed and imposed entries are never redrawn.
    """

    decode_schedule: AbstractRatio = fields.field(Cosine())
    choice_temperature: float = fields.field(1.0, ge=0.0, leaf=True)
    token_temperature: float = fields.field(1.0, ge=0.0, leaf=True)

    def step(
        self,
        process: "Masked",
        key: Key[Array, ""],
        state: MaskedState,
        prediction: Float[Array, "h a v"],
        t: Float[Array, ""],
        t_next: Float[Array, ""],
    ) -> MaskedState:
        """One reverse step; `prediction` holds logits over the v bins of every entry."""
        token_key, choice_key = jax.random.split(key)
        log_p = jax.nn.log_softmax(prediction)
        drawn = _draw(token_key, log_p, jnp.asarray(self.token_temperature))
        confidence = jnp.take_along_axis(log_p, drawn[..., None], axis=-1)[..., 0]
        noise = jax.random.gumbel(choice_key, confidence.shape)
        confidence = confidence + self.choice_temperature * (1.0 - t_next) * noise

        masked = state.tokens == process.mask_token
        count = masked.sum()
        # gamma(t') total is often whole (cos(pi/3) = 1/2): float32 must not floor it to the number below.
        remaining = jnp.floor((self.decode_schedule(t_next) + 1e-6) * state.total).astype(jnp.int32)
        remaining = jnp.where(t_next >= 1.0, 0, jnp.clip(remaining, 0, jnp.maximum(count - 1, 0)))
        # Known entries rank above every masked one, so the lowest `remaining` ranks are masked entries.
        rank = _rank(jnp.where(masked, confidence, jnp.inf).reshape(-1)).reshape(masked.shape)
        commit = masked & (rank >= remaining)
        return state._replace(tokens=jnp.where(commit, drawn, state.tokens))


@fields.configuration
class Masked(AbstractTokenProcess):
    r"""Absorbing-state corruption over action tokens (MaskGIT, arXiv 2202.04200).

    At time t ~ U(0, 1), max(1, round(gamma(t) L)) of a chunk's L = h a tokens, drawn without replacement, read MASK.
    Loss: cross-entropy on the drawn tokens, pooled over the batch.
    """

    num_bins: int = fields.field(64, ge=2, le=65536)
    train_mask_schedule: AbstractRatio = fields.field(Cosine())
    no_mask_token_prob: float = fields.field(0.0, ge=0.0, lt=1.0)

    sampler: ClassVar[type[AbstractSampler]] = MaskGIT
    timed: ClassVar[bool] = False

    @property
    def mask_token(self) -> int:
        """The input token that stands for "not known": v."""
        return self.num_bins

    @property
    def in_vocab(self) -> int:
        """v bins and MASK."""
        return self.num_bins + 1

    @property
    def out_vocab(self) -> int:
        """v bins."""
        return self.num_bins

    def encode(
        self, actions: Float[Array, "*b a"], low: tuple[float, ...], high: tuple[float, ...]
    ) -> Int[Array, "*b a"]:
        """Actions to bins."""
        return Bins(low, high, self.num_bins).encode(actions)

    def decode(self, x: Int[Array, "*b a"], low: tuple[float, ...], high: tuple[float, ...]) -> Float[Array, "*b a"]:
        """Bins to their centres."""
        return Bins(low, high, self.num_bins).decode(x)

    def corrupt(
        self, key: Key[Array, ""], tokens: Int[Array, "b h a"], t: Float[Array, " b"]
    ) -> tuple[Int[Array, "b h a"], Bool[Array, "b h a"]]:
        """Tokens with the drawn ones masked, and which were drawn (a share of these is shown in clear)."""
        draw_key, show_key = jax.random.split(key)
        length = tokens.shape[1] * tokens.shape[2]
        count = jnp.maximum(1, jnp.round(self.train_mask_schedule(t) * length)).astype(jnp.int32)
        rank = _rank(jax.random.uniform(draw_key, (tokens.shape[0], length)))
        drawn = (rank < count[:, None]).reshape(tokens.shape)
        shown = jax.random.uniform(show_key, tokens.shape) < self.no_mask_token_prob
        return jnp.where(drawn & ~shown, self.mask_token, tokens), drawn

    def loss(
        self, key: Key[Array, ""], x: Int[Array, "b h a"], denoise: Denoise
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Cross-entropy on the drawn tokens; metrics: loss, token_accuracy, masked_fraction."""
        time_key, corrupt_key = jax.random.split(key)
        noisy, drawn = self.corrupt(corrupt_key, x, jax.random.uniform(time_key, (x.shape[0],)))
        logits = denoise(noisy, None)
        # logsumexp minus the target's logit: the one-hot and the full log-softmax are never formed.
        target = jnp.take_along_axis(logits, x[..., None], axis=-1)[..., 0]
        cross_entropy = jax.nn.logsumexp(logits, axis=-1) - target
        total, count = jnp.where(drawn, cross_entropy, 0.0).sum(), drawn.sum().astype(jnp.float32)
        right = ((logits.argmax(-1) == x) & drawn).sum().astype(jnp.float32)
        size = jnp.asarray(float(drawn.size))
        metrics = {"loss": (total, count), "token_accuracy": (right, count), "masked_fraction": (count, size)}
        return total / count, {name: jnp.stack(pair) for name, pair in metrics.items()}

    def prior(self, key: Key[Array, ""], chunk: int, action_dim: int) -> MaskedState:
        """All MASK; the key is not used."""
        tokens = jnp.full((chunk, action_dim), self.mask_token, jnp.int32)
        return MaskedState(tokens, jnp.asarray(tokens.size, jnp.int32))

    def impose(self, state: MaskedState, x: Int[Array, "h a"], where: Bool[Array, "h 1"]) -> MaskedState:
        """Entries `where` read the tokens of x and no longer count as masked."""
        tokens = jnp.where(where, x, state.tokens)
        return MaskedState(tokens, (tokens == self.mask_token).sum().astype(jnp.int32))

    def noisy(self, state: MaskedState) -> Int[Array, "h a"]:
        """The tokens."""
        return state.tokens
