"""Uniform corruption over action tokens (D3PM), and its exact reverse step."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dd import fields
from dd.schedule import scores
from dd.schedule.base import AbstractSampler, AbstractTokenProcess, Denoise
from dd.schedule.choice import draw


class UniformState(NamedTuple):
    """A chunk on its way from uniform tokens to data.

    Attributes:
        tokens: int32 [h, a], each in 0..v-1.
        known: bool [h], entries that were imposed: never redrawn.
    """

    tokens: Int[Array, "h a"]
    known: Bool[Array, "h"]


def posterior(
    tokens: Int[Array, "h a"], p: Float[Array, "h a v"], t: Float[Array, ""], t_next: Float[Array, ""]
) -> Float[Array, "h a v"]:
    r"""The distribution of every token at t_next, given that at t and what the network says of the clean one.

    With r = t / t_next, a token i at t comes from j at t_next with probability q(i | j) = r [i = j] + (1 - r) / v, and
    j from the clean token k with q(j | k) = t_next [j = k] + (1 - t_next) / v. By Bayes' rule (D3PM, arXiv 2107.03006,
    eq. 3 and 4),

        q(j | i) = q(i | j) sum_k p(k) q(j | k) / q(i | k),   q(i | k) = t [i = k] + (1 - t) / v,

    and the sum takes two terms: j itself, and all k alike.
    """
    v = p.shape[-1]
    same = jax.nn.one_hot(tokens, v)
    r = t / t_next
    share = p / (t * same + (1.0 - t) / v)
    from_clean = t_next * share + (1.0 - t_next) / v * share.sum(axis=-1, keepdims=True)
    return (r * same + (1.0 - r) / v) * from_clean


@fields.configuration
class Reversal(AbstractSampler):
    r"""The exact posterior of the uniform process, token by token.

    p(clean) = softmax(logits / token_temperature). After every step come `corrector_steps` corrections: the chunk is
    corrupted back over `corrector_size` of the step and denoised forth again, which leaves the process's own marginals
    as they are (predictor-corrector sampling, arXiv 2205.14987, sec. 4.4). The tokens of a step are drawn independently
    of each other; corrections lessen what that costs, the more the smaller they are, given enough of them.
    """

    token_temperature: float = fields.field(1.0, ge=0.0, leaf=True)
    corrector_steps: int = fields.field(0, ge=0, le=100, leaf=True)
    corrector_size: float = fields.field(0.25, gt=0.0, le=1.0, leaf=True)

    def step(
        self,
        process: "Uniform",
        key: Key[Array, ""],
        state: UniformState,
        prediction: Float[Array, "h a v"],
        t: Float[Array, ""],
        t_next: Float[Array, ""],
    ) -> UniformState:
        """One reverse step; `prediction` holds logits over the v bins of every clean token."""
        p = jax.nn.softmax(prediction / jnp.maximum(self.token_temperature, 1e-6))
        # float32 leaves no mass on a token that is 87 nats away, and at t = 1 none but the data's would have any.
        log_p = jnp.log(jnp.maximum(posterior(state.tokens, p, t, t_next), jnp.finfo(p.dtype).tiny))
        drawn = draw(key, log_p, jnp.asarray(1.0))
        return state._replace(tokens=jnp.where(state.known[:, None], state.tokens, drawn))

    def corrections(
        self, t: Float[Array, ""], t_next: Float[Array, ""]
    ) -> tuple[int | Int[Array, ""], Float[Array, ""]]:
        """See the base class."""
        return self.corrector_steps, t_next - self.corrector_size * (t_next - t)

    def back(
        self,
        process: "Uniform",
        key: Key[Array, ""],
        state: UniformState,
        t: Float[Array, ""],
        t_next: Float[Array, ""],
    ) -> UniformState:
        """Every token replaced by a uniform one with probability 1 - t / t_next."""
        noisy = _replaced(key, state.tokens, t / t_next, process.num_bins)
        return state._replace(tokens=jnp.where(state.known[:, None], state.tokens, noisy))


@fields.configuration
class Uniform(AbstractTokenProcess):
    r"""Uniform corruption over action tokens (D3PM-uniform, arXiv 2107.03006, sec. 3.1).

    At time t ~ U(0, 1) each token is replaced by one drawn uniformly from all v bins with probability 1 - t. The
    network reads the time. Loss: cross-entropy on the clean token, at every entry.
    """

    num_bins: int = fields.field(64, ge=2, le=65536)

    sampler: ClassVar[type[AbstractSampler]] = Reversal
    timed: ClassVar[bool] = True

    @property
    def in_vocab(self) -> int:
        """v bins."""
        return self.num_bins

    def corrupt(self, key: Key[Array, ""], tokens: Int[Array, "b h a"], t: Float[Array, "b h"]) -> Int[Array, "b h a"]:
        """Tokens at time t, one for each entry; at 1 they stay as they are."""
        return _replaced(key, tokens, t[..., None], self.num_bins)

    def loss(
        self, key: Key[Array, ""], x: Int[Array, "b h a"], kept: Bool[Array, "b h"], denoise: Denoise
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Cross-entropy; metrics: loss, token_accuracy, replaced_fraction (of tokens that read another bin)."""
        time_key, corrupt_key = jax.random.split(key)
        t = jnp.where(kept, 1.0, jax.random.uniform(time_key, (x.shape[0], 1)))
        noisy = self.corrupt(corrupt_key, x, t)
        logits = denoise(noisy, t)
        asked = ~kept[..., None]
        metrics = {
            "loss": scores.pooled(scores.cross_entropy(logits, x), asked),
            "token_accuracy": scores.pooled(scores.right(logits, x), asked),
            "replaced_fraction": scores.pooled((noisy != x).astype(jnp.float32), asked),
        }
        return scores.mean(metrics["loss"]), metrics

    def prior(self, key: Key[Array, ""], chunk: int, action_dim: int) -> UniformState:
        """Uniform tokens."""
        tokens = jax.random.randint(key, (chunk, action_dim), 0, self.num_bins)
        return UniformState(tokens, jnp.zeros(chunk, bool))

    def impose(self, state: UniformState, x: Int[Array, "h a"], where: Bool[Array, "h"]) -> UniformState:
        """Entries `where` read the tokens of x."""
        return UniformState(jnp.where(where[:, None], x, state.tokens), state.known | where)

    def noisy(self, state: UniformState) -> Int[Array, "h a"]:
        """The tokens."""
        return state.tokens


def _replaced(
    key: Key[Array, ""], tokens: Int[Array, "*b h a"], keep: Float[Array, "..."], bins: int
) -> Int[Array, "*b h a"]:
    """Each token kept with probability `keep`, else drawn from all bins."""
    keep_key, draw_key = jax.random.split(key)
    stays = jax.random.uniform(keep_key, tokens.shape) < keep
    return jnp.where(stays, tokens, jax.random.randint(draw_key, tokens.shape, 0, bins))
