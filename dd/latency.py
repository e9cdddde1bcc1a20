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
    """Of one program, by the numbers that decide it."""

    def __init__(self, policy: Policy, decode: AbstractDecode, sampler: AbstractSampler):
        self._policy, self._decode, self._sampler = policy, decode, sampler
        self._chunk = jax.jit(self._one)
        self._known: dict[tuple[tuple[str, float], ...], float] = {}

    def knows(self, leaves: Mapping[str, Array]) -> bool:
        """Whether these numbers have been measured; seeds and level do not matter."""
        return self._told(leaves) in self._known

    def __getitem__(self, leaves: Mapping[str, Array]) -> float:
        """Median seconds of a call, from the observation to the chunk's actions, on the device that computes."""
        return self._known[self._told(leaves)]

    def measure(self, params: Mapping[str, PyTree[Array]], leaves: Mapping[str, Array]) -> None:
        """Time some calls.

        What runs beside them in this process should have ended. Rows on other GPUs go on: a device is measured alone,
        but its calls come from a host whose threads take turns, most of all while a neighbour's program is traced.

        Args:
            params: as a decode is given them.
            leaves: as `dd.rollout.leaves` gives them.
        """
        spec = self._policy.spec
        obs = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), spec.obs)
        plan = jnp.zeros((1, self._policy.chunk, len(spec.action_low)))
        numbers = self._numbers(leaves)

        def call() -> float:
            begin = time.perf_counter()
            jax.block_until_ready(self._chunk(params, obs, plan, numbers))
            return time.perf_counter() - begin

        call()  # compiles
        self._known[self._told(leaves)] = statistics.median(call() for _ in range(_CALLS))

    def _numbers(self, leaves: Mapping[str, Array]) -> dict[str, Array]:
        return {name: x for name, x in leaves.items() if name.startswith(("decode.", "sampler.")) or name in _PAIR}

    def _told(self, leaves: Mapping[str, Array]) -> tuple[tuple[str, float], ...]:
        # Delay and horizon decide what of a chunk is needed: how long it takes only where it ends early.
        numbers = self._numbers(leaves)
        told = numbers if self._sampler.early_stop else {name: numbers[name] for name in numbers.keys() - set(_PAIR)}
        return tuple(sorted((name, float(x)) for name, x in told.items()))

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
