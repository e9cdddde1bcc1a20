"""Masked (absorbing-state) diffusion over action tokens, and MaskGIT's parallel decoding."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dd import fields
from dd.errors import UserError
from dd.schedule import scores
from dd.schedule.base import AbstractSampler, AbstractTokenProcess, Denoise
from dd.schedule.choice import draw, rank
from dd.schedule.order import AbstractOrder, Confidence
from dd.schedule.ratio import AbstractRatio, Cosine
from dd.schedule.remask import AbstractRemask, Cap

_REMASK = 0x4E3A5C  # names the stream of what is masked again


class MaskedState(NamedTuple):
    """A chunk on its way from all MASK to all tokens.

    Attributes:
        tokens: int32 [h, a], each in 0..v-1 or MASK = v.
        known: bool [h], entries that were imposed: neither counted nor masked again.
        confidence: float32 [h, a], log p of a committed token when it was committed.
    """

    tokens: Int[Array, "h a"]
    known: Bool[Array, "h"]
    confidence: Float[Array, "h a"]


@fields.configuration
class MaskGIT(AbstractSampler):
    r"""Commit the most confident tokens first (MaskGIT, arXiv 2202.04200, sec. 3.2 and its reference implementation).

    In the step from t to t' every masked entry draws a token x ~ softmax(logits / token_temperature). Its score is
    log p(x) + choice_temperature (1 - t') g with g ~ Gumbel(0, 1): log-probabilities compare across entries, the noise
    is annealed to 0 with the last step, the highest are committed. floor(gamma(t') L) of the L entries that are not
    imposed stay masked, at least one is committed in every step, and none stays masked at t' = 1. Without remasking,
    committed entries are never redrawn; imposed ones never are.

    With `use_remask`, r committed entries read MASK again (ReMDM, arXiv 2503.00307) and r more are committed in their
    place, so that the number still masked follows the schedule all the same. With `early_stop` a chunk is finished once
    the entries that will be executed or kept as the next prefix are committed.
    """

    decode_schedule: AbstractRatio = fields.field(Cosine())
    choice_temperature: float = fields.field(1.0, ge=0.0, leaf=True)
    token_temperature: float = fields.field(1.0, ge=0.0, leaf=True)
    commit_order: AbstractOrder = fields.field(Confidence(), since=Confidence())
    use_remask: bool = fields.field(False, since=False)
    remask: AbstractRemask = fields.field(Cap(), since=Cap())
    early_stop: bool = fields.field(False, since=False)

    def __post_init__(self) -> None:
        if self.early_stop and self.use_remask:
            raise UserError(
                "early_stop=true: a token that is committed may be masked again with use_remask=true, so no chunk is "
                "finished early; leave one of them out"
            )

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
        drawn = draw(token_key, log_p, jnp.asarray(self.token_temperature))
        confidence = jnp.take_along_axis(log_p, drawn[..., None], axis=-1)[..., 0]
        noise = jax.random.gumbel(choice_key, confidence.shape)
        score = self.commit_order(confidence, self.choice_temperature * (1.0 - t_next), noise)

        masked = state.tokens == process.mask_token
        count, total = masked.sum(), (~state.known).sum() * masked.shape[1]
        # gamma(t') total is often whole (cos(pi/3) = 1/2): float32 must not floor it to the number below.
        remaining = jnp.floor((self.decode_schedule(t_next) + 1e-6) * total).astype(jnp.int32)
        remaining = jnp.where(t_next >= 1.0, 0, jnp.clip(remaining, 0, jnp.maximum(count - 1, 0)))
        again = self._again(key, state, masked, remaining)
        # Other entries rank above every masked one, so the lowest ranks are masked entries.
        place = rank(jnp.where(masked, score, jnp.inf).reshape(-1)).reshape(masked.shape)
        commit = masked & (place >= remaining - again.sum())
        tokens = jnp.where(again, process.mask_token, state.tokens)
        return MaskedState(
            jnp.where(commit, drawn, tokens), state.known, jnp.where(commit, confidence, state.confidence)
        )

    def finished(self, process: "Masked", state: MaskedState, needed: Bool[Array, "h"]) -> Bool[Array, ""]:
        """Nothing that is needed is still masked."""
        return ((state.tokens != process.mask_token) | ~needed[:, None]).all()

    def _again(
        self, key: Key[Array, ""], state: MaskedState, masked: Bool[Array, "h a"], remaining: Int[Array, ""]
    ) -> Bool[Array, "h a"]:
        """The committed entries that read MASK again."""
        if not self.use_remask:
            return jnp.zeros_like(masked)
        committed = ~masked & ~state.known[:, None]
        return self.remask(jax.random.fold_in(key, _REMASK), state.confidence, committed, remaining)


@fields.configuration
class Masked(AbstractTokenProcess):
    r"""Absorbing-state corruption over action tokens (MaskGIT, arXiv 2202.04200).

    At time t ~ U(0, 1), max(1, round(gamma(t) L)) of a chunk's L = h a tokens, drawn without replacement, read MASK;
    entries that are kept are not among the L. Loss: cross-entropy on the drawn tokens, pooled over the batch, and
    `auxiliary_weight` times the mean distance between a token's bin centre and the expected one, in units of half the
    action range.
    """

    num_bins: int = fields.field(64, ge=2, le=65536)
    train_mask_schedule: AbstractRatio = fields.field(Cosine())
    no_mask_token_prob: float = fields.field(0.0, ge=0.0, lt=1.0)
    auxiliary_weight: float = fields.field(0.0, ge=0.0, since=0.0)

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

    def corrupt(
        self, key: Key[Array, ""], tokens: Int[Array, "b h a"], t: Float[Array, " b"], kept: Bool[Array, "b h"]
    ) -> tuple[Int[Array, "b h a"], Bool[Array, "b h a"]]:
        """Tokens with the drawn ones masked, and which were drawn (a share of these is shown in clear)."""
        draw_key, show_key = jax.random.split(key)
        batch, chunk, action_dim = tokens.shape
        length = (chunk - kept.sum(axis=1)) * action_dim
        count = jnp.minimum(jnp.maximum(1, jnp.round(self.train_mask_schedule(t) * length)), length)
        values = jnp.where(kept[..., None], jnp.inf, jax.random.uniform(draw_key, tokens.shape))
        drawn = rank(values.reshape(batch, -1)).reshape(tokens.shape) < count[:, None, None]
        shown = jax.random.uniform(show_key, tokens.shape) < self.no_mask_token_prob
        return jnp.where(drawn & ~shown, self.mask_token, tokens), drawn

    def loss(
        self, key: Key[Array, ""], x: Int[Array, "b h a"], kept: Bool[Array, "b h"], denoise: Denoise
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Cross-entropy on the drawn tokens; metrics: loss, token_accuracy, masked_fraction, auxiliary."""
        time_key, corrupt_key = jax.random.split(key)
        noisy, drawn = self.corrupt(corrupt_key, x, jax.random.uniform(time_key, (x.shape[0],)), kept)
        logits = denoise(noisy, None)
        metrics = {
            "loss": scores.pooled(scores.cross_entropy(logits, x), drawn),
            "token_accuracy": scores.pooled(scores.right(logits, x), drawn),
            "masked_fraction": scores.pooled(drawn.astype(jnp.float32), ~kept[..., None]),
        }
        total = scores.mean(metrics["loss"])
        if self.auxiliary_weight:
            metrics["auxiliary"] = scores.pooled(scores.apart(logits, x), drawn)
            total += self.auxiliary_weight * scores.mean(metrics["auxiliary"])
        return total, metrics

    def prior(self, key: Key[Array, ""], chunk: int, action_dim: int) -> MaskedState:
        """All MASK; the key is not used."""
        shape = (chunk, action_dim)
        return MaskedState(jnp.full(shape, self.mask_token, jnp.int32), jnp.zeros(chunk, bool), jnp.zeros(shape))

    def impose(self, state: MaskedState, x: Int[Array, "h a"], where: Bool[Array, "h"]) -> MaskedState:
        """Entries `where` read the tokens of x and no longer count as masked."""
        return state._replace(tokens=jnp.where(where[:, None], x, state.tokens), known=state.known | where)

    def noisy(self, state: MaskedState) -> Int[Array, "h a"]:
        """The tokens."""
        return state.tokens
