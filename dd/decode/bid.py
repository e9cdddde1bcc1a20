"""Bidirectional decoding: many chunks are sampled, the one that fits the previous best is taken."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from dd import fields
from dd.decode.base import POLICY, AbstractDecode, Chunk, Prefix, num_flow_steps
from dd.decode.weights import AbstractWeights, Exp
from dd.errors import UserError
from dd.policy import Policy
from dd.schedule.base import AbstractSampler

_WEAK = "weak"
_SAMPLES = 0xB1D  # names the streams of the samples after the first


@fields.configuration
class Bid(AbstractDecode):
    r"""Best of `n_samples` chunks (bidirectional decoding, arXiv 2408.17355, as in the benchmark of arXiv 2506.07339).

    Backward coherence: sum_h w_h |x_h - y_h|, y the previous chunk, w the prefix weights, norms over the action's
    dimensions. With a weak policy, an earlier epoch of the same training, also forward contrast: the distances to the
    `bid_k` samples that are most coherent, minus those to the `bid_k` most coherent samples of the weak policy, over
    all entries,

        (sum_{p in strong_k} sum_h |x_h - p_h| - sum_{q in weak_k} sum_h |x_h - q_h|) / n_samples.

    The chunk with the least sum is taken. With one sample the method equals `naive`.
    """

    num_flow_steps: int = num_flow_steps()
    n_samples: int = fields.field(16, ge=1, le=4096)
    weak: int | None = fields.field(None, ge=1)
    bid_k: int | None = fields.field(None, ge=1)
    prefix_attention_schedule: AbstractWeights = fields.field(Exp())

    def __post_init__(self) -> None:
        if (self.weak is None) != (self.bid_k is None):
            one, other = ("bid_k", "weak") if self.weak is None else ("weak", "bid_k")
            raise UserError(f"{one}={getattr(self, one)}: forward contrast needs decode.{other} too, or neither")
        if self.bid_k is not None and self.bid_k > self.n_samples:
            raise UserError(f"bid_k={self.bid_k}: must be at most n_samples={self.n_samples}; for instance bid_k=3")

    def checkpoints(self) -> dict[str, int]:
        """The weak policy's epoch."""
        return {} if self.weak is None else {_WEAK: self.weak}

    def chunk(
        self,
        policy: Policy,
        sampler: AbstractSampler,
        params: Mapping[str, PyTree[Array]],
        keys: Key[Array, " b"],
        obs: PyTree[Array],
        prefix: Prefix,
    ) -> Chunk:
        """See the base class."""
        strong, asked = self._samples(policy, sampler, params[POLICY], keys, obs)
        coherence = self._coherence(strong, prefix)
        loss = coherence
        if self.bid_k is not None:
            weak, asked_weak = self._samples(policy, sampler, params[_WEAK], keys, obs)
            near, far = _best(strong, coherence, self.bid_k), _best(weak, self._coherence(weak, prefix), self.bid_k)
            loss = loss + (_distance(strong, near) - _distance(strong, far)) / self.n_samples
            asked = asked + asked_weak
        best = loss.argmin(axis=0)
        return Chunk(jnp.take_along_axis(strong, best[None, :, None, None], axis=0)[0], asked)

    def _samples(
        self,
        policy: Policy,
        sampler: AbstractSampler,
        params: PyTree[Array],
        keys: Key[Array, " b"],
        obs: PyTree[Array],
    ) -> tuple[Float[Array, "n b h a"], Array]:
        """Chunks sampled independently; the first is that of `naive`."""
        n, b = self.n_samples, keys.shape[0]
        streams = jax.vmap(jax.random.fold_in, (0, None))(keys, _SAMPLES)
        others = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (None, 0))(streams, jnp.arange(1, n))
        many = jnp.concatenate([keys[None], others]).reshape(n * b)
        denoise = policy.denoiser(params, obs, samples=n)
        state, asked = policy.sample(denoise, sampler, many, policy.prior(many), self.num_flow_steps)
        actions = policy.actions(state)
        return actions.reshape(n, b, *actions.shape[1:]), asked.reshape(n, b).sum(axis=0)

    def _coherence(self, samples: Float[Array, "n b h a"], prefix: Prefix) -> Float[Array, "n b"]:
        weights = prefix.weights(self.prefix_attention_schedule)
        return (weights * jnp.linalg.norm(samples - prefix.actions, axis=-1)).sum(axis=-1)


def _best(samples: Float[Array, "n b h a"], loss: Float[Array, "n b"], k: int) -> Float[Array, "k b h a"]:
    """The k samples with the least loss."""
    index = jax.lax.top_k(-loss.T, k)[1].T
    return jnp.take_along_axis(samples, index[:, :, None, None], axis=0)


def _distance(samples: Float[Array, "n b h a"], others: Float[Array, "k b h a"]) -> Float[Array, "n b"]:
    """Summed over the others and over entries."""
    return jax.lax.map(lambda one: jnp.linalg.norm(one - others, axis=-1).sum(axis=(0, 2)), samples)
