"""Hard masking of what is being executed, and a soft pull toward what was planned after it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dd import fields
from dd.decode.base import AbstractDecode, Prefix, num_flow_steps
from dd.decode.hard_masking import imposed, needs_tokens
from dd.policy import Policy
from dd.schedule.base import AbstractProcess, Denoise, State
from dd.tokens import Bins


@fields.configuration
class Realtime(AbstractDecode):
    r"""Real-time chunking over tokens: the first d entries imposed, the overlap after them pulled toward the prefix.

    The logit of bin v at entry h, dimension a is lowered by strength w_h (c_v - y_h)^2 / (2 sigma^2), with c_v the
    bin's centre, y_h the prefix's action and w_h the prefix weights of real-time chunking (arXiv 2506.07339, eq. 5).
    This is the token form of its soft mask: the policy's distribution times a Gaussian around the previous plan.
    Strength 0 is `hard_masking`; so is a chunk without overlap (s = H - d).
    """

    num_flow_steps: int = num_flow_steps()
    strength: float = fields.field(0.03, ge=0.0, leaf=True)
    sigma: float = fields.field(0.1, gt=0.0, leaf=True)

    def misfit(self, process: AbstractProcess) -> str | None:
        """A process over tokens is needed."""
        return needs_tokens(process)

    def before(self, policy: Policy, state: State, prefix: Prefix) -> State:
        """Impose the first d entries."""
        return imposed(policy, state, prefix)

    def during(self, policy: Policy, denoise: Denoise, prefix: Prefix) -> Denoise:
        """Logits minus the pull, which is the same in every step."""
        pull = self._pull(policy, prefix)
        return lambda x, t: denoise(x, t) - pull

    def _pull(self, policy: Policy, prefix: Prefix) -> Float[Array, "b h a v"]:
        centres = Bins(policy.spec.action_low, policy.spec.action_high, policy.process.num_bins).centres()
        distance = jnp.square(centres - prefix.actions[..., None])
        return self.strength * prefix.weights()[:, None, None] * distance / (2.0 * self.sigma**2)
