"""What a decode method adds to the sampling loop: something before, during or after its steps."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dd import fields
from dd.decode.weights import AbstractWeights
from dd.policy import Policy
from dd.schedule.base import AbstractProcess, AbstractSampler, AbstractTokenProcess, Denoise, State

POLICY = "policy"
"""The name of the evaluated policy's own parameters among those that a decode is given."""


class Prefix(NamedTuple):
    """The previous chunk as the new one sees it, shifted so that index 0 is now.

        index    0 ... d-1           d ... H-s-1        H-s ... H-1
        holds    executed while      still planned,     empty (zeros)
                 this is computed    open to change

    Attributes:
        actions: the previous chunk's actions, [b, h, a].
        delay: d, env steps that pass while the new chunk is computed.
        horizon: s, actions executed per chunk, max(1, d) <= s <= H - d.
    """

    actions: Float[Array, "b h a"]
    delay: Int[Array, ""]
    horizon: Int[Array, ""]

    def committed(self) -> Bool[Array, "h"]:
        """The first d entries: they will be executed whatever the new chunk says."""
        return jnp.arange(self.actions.shape[1]) < self.delay

    def needed(self) -> Bool[Array, "h"]:
        """The entries of the new chunk that are executed: d to s - 1, then d more while the next one is computed."""
        index = jnp.arange(self.actions.shape[1])
        return (index >= self.delay) & (index < self.horizon + self.delay)

    def weights(self, schedule: AbstractWeights) -> Float[Array, "h"]:
        """How much each entry counts: 1 while committed, 0 once empty, `schedule` between them."""
        size = self.actions.shape[1]
        return schedule(self.delay, size - self.horizon, size)


class Chunk(NamedTuple):
    """The next chunk of each observation, and how often the network was asked for it.

    Attributes:
        actions: [b, h, a].
        evaluations: passes through the network, forward or backward, for each.
    """

    actions: Float[Array, "b h a"]
    evaluations: Int[Array, " b"]


class AbstractDecode(abc.ABC):
    """A decode method, a frozen configuration whose numbers are leaves. Every method has `num_flow_steps`."""

    num_flow_steps: int

    reads_rest: ClassVar[bool] = True
    """Whether entries of a chunk beyond `Prefix.needed` matter to the next one; one that reads none may say False, and
    goes with `early_stop`, which leaves these undecided."""

    def misfit(self, process: AbstractProcess, *, simulated_delay: bool) -> str | None:
        """Why this method makes no sense for a policy, and which does; None where it fits.

        Args:
            process: the policy's corruption process.
            simulated_delay: whether it was trained with prefixes given.
        """
        return None

    def checkpoints(self) -> dict[str, int]:
        """Epochs of the policy's own training whose parameters this method wants beside the policy's, by name."""
        return {}

    def before(self, policy: Policy, state: State, prefix: Prefix) -> State:
        """The state that the first reverse step starts from."""
        return state

    def during(self, policy: Policy, denoise: Denoise, prefix: Prefix) -> Denoise:
        """The denoiser that the reverse steps ask."""
        return denoise

    def evaluations_per_step(self, process: AbstractProcess) -> int:
        """Passes through the network when the denoiser of `during` is asked once."""
        return 1

    def chunk(
        self,
        policy: Policy,
        sampler: AbstractSampler,
        params: Mapping[str, PyTree[Array]],
        keys: Key[Array, " b"],
        obs: PyTree[Array],
        prefix: Prefix,
    ) -> Chunk:
        """The next chunk for each observation, given the prefix.

        Args:
            policy: shapes and parts.
            sampler: takes the reverse steps.
            params: the policy's parameters as `POLICY`, those of `checkpoints` by their names.
            keys: one per chunk.
            obs: batched.
            prefix: the previous chunks.
        """
        denoise = self.during(policy, policy.denoiser(params[POLICY], obs), prefix)
        state = self.before(policy, policy.prior(keys), prefix)
        state, asked = policy.sample(denoise, sampler, keys, state, self.num_flow_steps, needed=prefix.needed())
        return Chunk(policy.actions(state), asked * self.evaluations_per_step(policy.process))


def num_flow_steps() -> Any:
    """The field that every decode method shares: reverse steps per chunk."""
    return fields.field(5, ge=1, le=1000, leaf=True)


def idle(
    decode: AbstractDecode, process: AbstractProcess, *, tokens: tuple[str, ...], continuous: tuple[str, ...]
) -> str | None:
    """Why a value that was set would do nothing with this process; None where none was.

    Args:
        decode: the method.
        process: the policy's.
        tokens: fields that only processes over tokens read.
        continuous: fields that only continuous ones read.
    """
    over_tokens = isinstance(process, AbstractTokenProcess)
    unused, kind = (continuous, "continuous schedules") if over_tokens else (tokens, "schedules over tokens")
    defaults = type(decode)()
    for name in unused:
        if getattr(decode, name) != getattr(defaults, name):
            return f"decode.{name} is read with {kind} only; leave it at {getattr(defaults, name)}"
    return None
