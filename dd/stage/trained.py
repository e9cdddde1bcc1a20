"""What an evaluation needs of a stage whose result is a policy."""

import abc

from dd.env.base import AbstractEnv
from dd.model.base import AbstractModel
from dd.policy import Policy
from dd.schedule.base import AbstractProcess
from dd.stage.base import AbstractStage


class AbstractTrained(AbstractStage):
    """A stage that leaves a policy: `policy.json` and `<checkpoint>.safetensors`, as `LoadedPolicy.read` takes them."""

    env: AbstractEnv
    """The level that it is for."""
    process: AbstractProcess
    model: AbstractModel
    action_chunk_size: int
    """h, the actions of a chunk."""
    seed: int
    """Of the policy's sampling."""

    @property
    @abc.abstractmethod
    def given_prefixes(self) -> bool:
        """Whether training gave it prefixes, at time 1."""

    @property
    @abc.abstractmethod
    def last_epoch(self) -> int | None:
        """The number of the epoch that `last` is after; None where only the result tells."""

    @abc.abstractmethod
    def checkpoint(self, epoch: int | str | None) -> str:
        """The name of the parameters after an epoch: `last` for None, or another that the stage keeps.

        Raises:
            UserError: where that epoch is not kept.
        """

    def policy(self) -> Policy:
        """Shapes and parts of the policy."""
        return Policy(self.process, self.model, self.env.spec(), self.action_chunk_size, self.given_prefixes)
