"""The actions that will be executed while the chunk is computed are imposed on it."""

from typing import ClassVar

import jax

from dd import fields
from dd.decode.base import AbstractDecode, Prefix, idle, num_flow_steps
from dd.decode.guidance import guided, max_guidance_weight, passes
from dd.decode.weights import Zeros
from dd.policy import Policy
from dd.schedule.base import AbstractContinuousProcess, AbstractProcess, AbstractTokenProcess, Denoise, State


def imposed(policy: Policy, state: State, prefix: Prefix) -> State:
    """States with the first d entries fixed to the prefix's."""
    x, where = policy.encode(prefix.actions), prefix.committed()
    return jax.vmap(lambda one, each: policy.process.impose(one, each, where))(state, x)


def imposed_tokens(policy: Policy, state: State, prefix: Prefix) -> State:
    """The same over tokens; a continuous policy is guided instead."""
    return imposed(policy, state, prefix) if isinstance(policy.process, AbstractTokenProcess) else state


@fields.configuration
class HardMasking(AbstractDecode):
    """Keep the first d entries of the prefix and let the policy fill in the rest.

    Tokens: the entries are imposed as committed ones (DiscreteRTC, arXiv 2604.25050). Continuous: guidance with weight
    1 on them and 0 after (the hard mask of arXiv 2506.07339). At d = 0 the method equals `naive`.
    """

    num_flow_steps: int = num_flow_steps()
    max_guidance_weight: float = max_guidance_weight()

    reads_rest: ClassVar[bool] = False

    def misfit(self, process: AbstractProcess, *, simulated_delay: bool) -> str | None:
        """`max_guidance_weight` is of continuous policies."""
        return idle(self, process, tokens=(), continuous=("max_guidance_weight",))

    def before(self, policy: Policy, state: State, prefix: Prefix) -> State:
        """Tokens: impose the first d entries."""
        return imposed_tokens(policy, state, prefix)

    def during(self, policy: Policy, denoise: Denoise, prefix: Prefix) -> Denoise:
        """Continuous: guide."""
        if not isinstance(policy.process, AbstractContinuousProcess):
            return denoise
        return guided(policy, denoise, prefix, prefix.weights(Zeros()), self.max_guidance_weight)

    def evaluations_per_step(self, process: AbstractProcess) -> int:
        """See `guidance.passes`."""
        return passes(process)
