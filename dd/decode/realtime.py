"""Hard masking of what is being executed, and a soft pull toward what was planned after it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dd import fields
from dd.decode.base import AbstractDecode, Prefix, idle, num_flow_steps
from dd.decode.guidance import guided, max_guidance_weight, passes
from dd.decode.hard_masking import imposed_tokens
from dd.decode.weights import AbstractWeights, Exp
from dd.policy import Policy
from dd.schedule.base import AbstractContinuousProcess, AbstractProcess, Denoise, State
from dd.tokens import Bins


@fields.configuration
class Realtime(AbstractDecode):
    r"""Real-time chunking: the first d entries kept, the overlap after them pulled toward the prefix.

    Continuous: guidance with the prefix weights w_h (arXiv 2506.07339, algorithm 1).

    Tokens: the first d entries imposed; the logit of bin v at entry h, dimension a is lowered by
    strength w_h (c_v - y_h)^2 / (2 sigma^2), with c_v the bin's centre and y_h the prefix's action: the policy's
    distribution times a Gaussian around the previous plan. Strength 0 is `hard_masking`; so is a chunk without overlap
    (s = H - d).
    """

    num_flow_steps: int = num_flow_steps()
    strength: float = fields.field(0.03, ge=0.0, leaf=True)
    sigma: float = fields.field(0.1, gt=0.0, leaf=True)
    prefix_attention_schedule: AbstractWeights = fields.field(Exp(), since=Exp())
    max_guidance_weight: float = max_guidance_weight()

    def misfit(self, process: AbstractProcess, *, simulated_delay: bool) -> str | None:
        """`strength` and `sigma` are of tokens, `max_guidance_weight` of continuous policies."""
        return idle(self, process, tokens=("strength", "sigma"), continuous=("max_guidance_weight",))

    def before(self, policy: Policy, state: State, prefix: Prefix) -> State:
        """Tokens: impose the first d entries."""
        return imposed_tokens(policy, state, prefix)

    def during(self, policy: Policy, denoise: Denoise, prefix: Prefix) -> Denoise:
        """Tokens: logits minus the pull, which is the same in every step. Continuous: guide."""
        weights = prefix.weights(self.prefix_attention_schedule)
        if isinstance(policy.process, AbstractContinuousProcess):
            return guided(policy, denoise, prefix, weights, self.max_guidance_weight)
        pull = self._pull(policy, prefix, weights)
        return lambda x, t: denoise(x, t) - pull

    def evaluations_per_step(self, process: AbstractProcess) -> int:
        """See `guidance.passes`."""
        return passes(process)

    def _pull(self, policy: Policy, prefix: Prefix, weights: Float[Array, "h"]) -> Float[Array, "b h a v"]:
        centres = Bins(policy.spec.action_low, policy.spec.action_high, policy.process.num_bins).centres()
        distance = jnp.square(centres - prefix.actions[..., None])
        return self.strength * weights[:, None, None] * distance / (2.0 * self.sigma**2)
