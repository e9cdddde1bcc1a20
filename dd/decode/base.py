"""What a decode method adds to the sampling loop: something before, during or after its steps."""

import abc
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dd import fields
from dd.policy import Policy
from dd.schedule.base import AbstractProcess, AbstractSampler, Denoise, State


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

    def committed(self) -> Bool[Array, "h 1"]:
        """The first d entries: they will be executed whatever the new chunk says."""
        return (jnp.arange(self.actions.shape[1]) < self.delay)[:, None]

    def weights(self) -> Float[Array, " h"]:
        r"""How much each entry of the prefix counts (real-time chunking, arXiv 2506.07339, eq. 5).

        1 before start = d, 0 from end = H - s on, between them c (e^c - 1) / (e - 1) with
        c = (end - i) / (end - start + 1).
        """
        size = self.actions.shape[1]
        index, end = jnp.arange(size), size - self.horizon
        start = jnp.minimum(self.delay, end)
        share = jnp.clip((end - index) / (end - start + 1), 0.0, 1.0)
        return jnp.where(index < end, share * jnp.expm1(share) / jnp.expm1(1.0), 0.0)


class AbstractDecode(abc.ABC):
    """A decode method, a frozen configuration whose numbers are leaves. Every method has `num_flow_steps`."""

    num_flow_steps: int

    def misfit(self, process: AbstractProcess) -> str | None:
        """Why this method makes no sense for a process, and which do; None where it fits."""
        return None

    def before(self, policy: Policy, state: State, prefix: Prefix) -> State:
        """The state that the first reverse step starts from."""
        return state

    def during(self, policy: Policy, denoise: Denoise, prefix: Prefix) -> Denoise:
        """The denoiser that the reverse steps ask."""
        return denoise

    def chunk(
        self,
        policy: Policy,
        sampler: AbstractSampler,
        params: PyTree[Array],
        keys: Key[Array, " b"],
        obs: PyTree[Array],
        prefix: Prefix,
    ) -> Float[Array, "b h a"]:
        """The next chunk for each observation, given the prefix."""
        denoise = self.during(policy, policy.denoiser(params, obs), prefix)
        state = self.before(policy, policy.prior(keys), prefix)
        return policy.actions(policy.sample(denoise, sampler, keys, state, self.num_flow_steps))

    def network_evaluations(self, sampler: AbstractSampler) -> int:
        """Passes through the network per chunk."""
        return sampler.network_evaluations(self.num_flow_steps)


def num_flow_steps() -> Any:
    """The field that every decode method shares: reverse steps per chunk."""
    return fields.field(5, ge=1, le=1000, leaf=True)
