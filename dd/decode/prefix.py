"""The actions that will be executed meanwhile are given to a continuous policy that was trained to be given them."""

from dd import fields
from dd.decode.base import AbstractDecode, Prefix, num_flow_steps
from dd.decode.hard_masking import imposed
from dd.policy import Policy
from dd.schedule.base import AbstractContinuousProcess, AbstractProcess, State


@fields.configuration
class GivenPrefix(AbstractDecode):
    """Training-time real-time chunking (arXiv 2512.05964): the first d actions enter clean, at time 1; no guidance.

    The policy must have been trained with `train.simulated_delay`. At d = 0 the method equals `naive`.
    """

    num_flow_steps: int = num_flow_steps()

    def misfit(self, process: AbstractProcess, *, simulated_delay: bool) -> str | None:
        """A continuous process, trained with simulated delay."""
        if not isinstance(process, AbstractContinuousProcess):
            return "tokens are imposed as they are; use decode=hard_masking"
        if not simulated_delay:
            return "the policy must be trained with prefixes given; set train.simulated_delay, for instance to 5"
        return None

    def before(self, policy: Policy, state: State, prefix: Prefix) -> State:
        """Impose the first d entries."""
        return imposed(policy, state, prefix)
