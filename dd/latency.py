"""How long a policy takes to answer: the time of one chunk at batch 1."""

import statistics
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dd import fields
from dd.decode.base import AbstractDecode, Prefix
from dd.policy import Policy
from dd.schedule.base import AbstractSampler

_CALLS = 20
_PAIR = ("inference_delay", "execute_horizon")


class Latency:
    """Measures one program; equal numbers are measured once."""

    def __init__(self, policy: Policy, decode: AbstractDecode, sampler: AbstractSampler):
        self._policy, self._decode, self._sampler = policy, decode, sampler
        self._chunk = jax.jit(self._one)
        self._known: dict[tuple[tuple[str, float], ...], float] = {}

    def __call__(self, params: Mapping[str, PyTree[Array]], leaves: Mapping[str, Array]) -> float:
        """Median seconds of a call, on the device that computes, from the observation to the chunk's actions.

        Args:
            params: as a decode is given them.
            leaves: as `dd.rollout.leaves` gives them; seeds and level do not matter.
        """
        numbers = {name: x for name, x in leaves.items() if name.startswith(("decode.", "sampler.")) or name in _PAIR}
        told = tuple(sorted((name, float(x)) for name, x in numbers.items()))
        if told not in self._known:
            spec = self._policy.spec
            obs = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), spec.obs)
            plan = jnp.zeros((1, self._policy.chunk, len(spec.action_low)))

            def call() -> float:
                begin = time.perf_counter()
                jax.block_until_ready(self._chunk(params, obs, plan, numbers))
                return time.perf_counter() - begin

            call()  # compiles
            self._known[told] = statistics.median(call() for _ in range(_CALLS))
        return self._known[told]

    def _one(
        self,
        params: Mapping[str, PyTree[Array]],
        obs: PyTree[Array],
        plan: Float[Array, "1 h a"],
        numbers: Mapping[str, Array],
    ) -> Float[Array, "1 h a"]:
        decode = fields.bind(self._decode, numbers, "decode.")
        sampler = fields.bind(self._sampler, numbers, "sampler.")
        prefix = Prefix(plan, numbers["inference_delay"], numbers["execute_horizon"])
        return decode.chunk(self._policy, sampler, params, jax.random.key(0)[None], obs, prefix).actions
