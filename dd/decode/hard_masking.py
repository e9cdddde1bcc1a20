"""The actions that will be executed while the chunk is computed are imposed on it."""

import jax

from dd import fields
from dd.decode.base import AbstractDecode, Prefix, num_flow_steps
from dd.policy import Policy
from dd.schedule.base import AbstractProcess, AbstractTokenProcess, State


def imposed(policy: Policy, state: State, prefix: Prefix) -> State:
    """States with the first d entries fixed to the prefix's tokens."""
    tokens, where = policy.encode(prefix.actions), prefix.committed()
    return jax.vmap(lambda one, x: policy.process.impose(one, x, where))(state, tokens)


def needs_tokens(process: AbstractProcess) -> str | None:
    """Why a process whose entries can't be imposed does not fit."""
    if isinstance(process, AbstractTokenProcess):
        return None
    return f"{type(process).__name__} has no tokens to impose; use schedule=masked, or decode=naive"


@fields.configuration
class HardMasking(AbstractDecode):
    """Keep the first d entries of the prefix as committed tokens and infill the rest (DiscreteRTC, arXiv 2604.25050).

    At d = 0 nothing is imposed and the method equals `naive`.
    """

    num_flow_steps: int = num_flow_steps()

    def misfit(self, process: AbstractProcess) -> str | None:
        """A process over tokens is needed."""
        return needs_tokens(process)

    def before(self, policy: Policy, state: State, prefix: Prefix) -> State:
        """Impose the first d entries."""
        return imposed(policy, state, prefix)
