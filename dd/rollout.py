"""Closed-loop evaluation under inference delay, one compiled program for a whole grid of delays, horizons and steps."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dd import fields
from dd.decode.base import POLICY, AbstractDecode, Prefix
from dd.env.base import AbstractEnv
from dd.policy import Policy
from dd.schedule.base import AbstractSampler


class Episodes(NamedTuple):
    """Outcome of each numbered episode, and what it took.

    Attributes:
        solved: [n], its goal was reached.
        length: [n], env steps it lasted.
        return_: [n], its summed reward.
        iterations: env steps taken by all slots side by side; iterations x slots is the work, sum(length) the use.
        chunks: [n], chunks sampled at its boundaries.
        evaluations: [n], passes through the network for them.
    """

    solved: Bool[Array, " n"]
    length: Int[Array, " n"]
    return_: Float[Array, " n"]
    iterations: Int[Array, ""]
    chunks: Int[Array, " n"]
    evaluations: Int[Array, " n"]


class _Slots(NamedTuple):
    episode: Int[Array, " b"]  # number of the running episode; n where the slot has nothing left to do
    step: Int[Array, " b"]  # env steps into it
    state: PyTree[Array]
    chunk: Float[Array, "b h a"]  # the previous chunk, shifted so that index 0 is now
    total: Float[Array, " b"]  # return so far


class _Loop(NamedTuple):
    slots: _Slots
    next_episode: Int[Array, ""]
    done: Episodes


def _pick(choose: Bool[Array, " b"], new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    def pick(a: Array, b: Array) -> Array:
        return jnp.where(choose.reshape(choose.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)


@dataclasses.dataclass(frozen=True)
class Rollout:
    """The static part of an evaluation; `__call__` is what gets compiled.

    Protocol (arXiv 2506.07339, its public benchmark): at reset a chunk A is sampled naively. At every boundary, the
    first included, a chunk B is sampled from the current observation, conditioned on A. A[:d] is executed, then B[d:s].
    Then A is B[s:] followed by s zero actions.

    Episodes are numbered 0..n-1 and each is run once to its end, so short ones are not favoured. A slot whose episode
    is over takes the next number at its chunk boundary. Environment noise is keyed by (evaluation seed, level, episode,
    step), the policy's by (policy seed, episode, step): slots, batch and the other episodes never enter.

    Attributes:
        env: the world; its level is an argument.
        policy: shapes and parts; its parameters are an argument.
        decode, sampler: how a chunk is drawn; their leaves are arguments.
        num_evals: n, episodes.
        slots: b, episodes side by side.
    """

    env: AbstractEnv
    policy: Policy
    decode: AbstractDecode
    sampler: AbstractSampler
    num_evals: int
    slots: int

    def __call__(self, params: PyTree[Array], level: PyTree[Array], leaves: Mapping[str, Array]) -> Episodes:
        """Run all episodes.

        Args:
            params: the policy's parameters and those that the decode wants beside them, by name.
            level: the level's arrays.
            leaves: what `leaves` gives.
        """
        n, b = self.num_evals, min(self.slots, self.num_evals)
        streams = _Streams.of(leaves)
        opening = self._opening_chunks(params, level, leaves, streams)
        episode = jnp.arange(b, dtype=jnp.int32)
        start = _Loop(
            slots=self._fresh(level, streams, opening, episode),
            next_episode=jnp.asarray(b, jnp.int32),
            done=Episodes(
                solved=jnp.zeros(n, bool),
                length=jnp.zeros(n, jnp.int32),
                return_=jnp.zeros(n),
                iterations=jnp.asarray(0, jnp.int32),
                chunks=jnp.zeros(n, jnp.int32),
                evaluations=jnp.zeros(n, jnp.int32),
            ),
        )

        def unfinished(loop: _Loop) -> Bool[Array, ""]:
            return (loop.slots.episode < n).any()

        def round_(loop: _Loop) -> _Loop:
            return self._refill(level, streams, opening, self._round(params, level, leaves, streams, loop))

        return jax.lax.while_loop(unfinished, round_, start).done

    def _opening_chunks(
        self, params: PyTree[Array], level: PyTree[Array], leaves: Mapping[str, Array], streams: "_Streams"
    ) -> Float[Array, "n h a"]:
        """The naive chunk A of every episode, sampled `slots` at a time, once and for all."""
        sampler = fields.bind(self.sampler, leaves, "sampler.")
        b = min(self.slots, self.num_evals)
        blocks = -(-self.num_evals // b)

        def block(episodes: Int[Array, " b"]) -> Float[Array, "b h a"]:
            state = jax.vmap(self.env.reset, (None, 0))(level, streams.reset(episodes))
            obs = jax.vmap(self.env.observe, (None, 0))(level, state)
            keys = streams.opening(episodes)
            denoise = self.policy.denoiser(params[POLICY], obs)
            state, _ = self.policy.sample(
                denoise, sampler, keys, self.policy.prior(keys), leaves["decode.num_flow_steps"]
            )
            return self.policy.actions(state)

        chunks = jax.lax.map(block, jnp.arange(blocks * b, dtype=jnp.int32).reshape(blocks, b))
        return chunks.reshape(blocks * b, *chunks.shape[2:])

    def _fresh(
        self, level: PyTree[Array], streams: "_Streams", opening: Float[Array, "n h a"], episode: Int[Array, " b"]
    ) -> _Slots:
        state = jax.vmap(self.env.reset, (None, 0))(level, streams.reset(episode))
        zero = jnp.zeros_like(episode)
        chunk = opening[jnp.minimum(episode, opening.shape[0] - 1)]
        return _Slots(episode, zero, state, chunk, zero.astype(jnp.float32))

    def _round(
        self,
        params: PyTree[Array],
        level: PyTree[Array],
        leaves: Mapping[str, Array],
        streams: "_Streams",
        loop: _Loop,
    ) -> _Loop:
        """Sample a chunk for every slot and execute s steps; slots whose episode ends stand still till the boundary."""
        decode, sampler = fields.bind(self.decode, leaves, "decode."), fields.bind(self.sampler, leaves, "sampler.")
        d, s = leaves["inference_delay"], leaves["execute_horizon"]
        before = loop.slots.chunk
        obs = jax.vmap(self.env.observe, (None, 0))(level, loop.slots.state)
        keys = streams.policy(loop.slots.episode, loop.slots.step)
        after, asked = decode.chunk(self.policy, sampler, params, keys, obs, Prefix(before, d, s))
        counted = loop.done._replace(  # idle slots have number n, which lies outside and is dropped
            chunks=loop.done.chunks.at[loop.slots.episode].add(1, mode="drop"),
            evaluations=loop.done.evaluations.at[loop.slots.episode].add(asked, mode="drop"),
        )
        loop = loop._replace(done=counted)

        def running(carry: tuple[Int[Array, ""], _Loop]) -> Bool[Array, ""]:
            return (carry[0] < s) & (carry[1].slots.episode < self.num_evals).any()

        def execute(carry: tuple[Int[Array, ""], _Loop]) -> tuple[Int[Array, ""], _Loop]:
            i, loop = carry
            action = jnp.where(i < d, before[:, i], after[:, i])
            return i + 1, self._step(level, streams, loop, action)

        _, loop = jax.lax.while_loop(running, execute, (jnp.asarray(0, jnp.int32), loop))
        index = jnp.arange(self.policy.chunk)
        shifted = jnp.where((index + s < self.policy.chunk)[:, None], jnp.roll(after, -s, axis=1), 0.0)
        return loop._replace(slots=loop.slots._replace(chunk=shifted))

    def _step(self, level: PyTree[Array], streams: "_Streams", loop: _Loop, action: Float[Array, "b a"]) -> _Loop:
        slots, n = loop.slots, self.num_evals
        running = slots.episode < n
        keys = streams.env(slots.episode, slots.step)
        state, outcome = jax.vmap(self.env.step, (None, 0, 0, 0))(level, slots.state, action, keys)
        total = slots.total + jnp.where(running, outcome.reward, 0.0)
        step = slots.step + running
        ended = running & outcome.done
        where = jnp.where(ended, slots.episode, n)  # n lies outside and is dropped
        done = loop.done._replace(
            solved=loop.done.solved.at[where].set(outcome.solved, mode="drop"),
            length=loop.done.length.at[where].set(step, mode="drop"),
            return_=loop.done.return_.at[where].set(total, mode="drop"),
            iterations=loop.done.iterations + 1,
        )
        # An ended slot waits under number n for the boundary.
        episode = jnp.where(ended, n, slots.episode)
        state = _pick(running, state, slots.state)
        return loop._replace(slots=slots._replace(episode=episode, step=step, state=state, total=total), done=done)

    def _refill(self, level: PyTree[Array], streams: "_Streams", opening: Float[Array, "n h a"], loop: _Loop) -> _Loop:
        """Give the next numbers to the slots that wait."""
        idle = loop.slots.episode >= self.num_evals
        number = jnp.minimum(loop.next_episode + jnp.cumsum(idle) - 1, self.num_evals).astype(jnp.int32)
        fresh = self._fresh(level, streams, opening, jnp.where(idle, number, loop.slots.episode))
        taken = jnp.minimum(loop.next_episode + idle.sum(), self.num_evals).astype(jnp.int32)
        return loop._replace(slots=_pick(idle, fresh, loop.slots), next_episode=taken)


def leaves(
    decode: AbstractDecode,
    sampler: AbstractSampler,
    *,
    inference_delay: int,
    execute_horizon: int,
    env_seed: int,
    policy_seed: int,
    level_id: int,
) -> dict[str, Array]:
    """The arrays in which evaluations through one program differ, beside parameters and level.

    Args:
        decode, sampler: how a chunk is drawn.
        inference_delay, execute_horizon: d and s.
        env_seed: of the episodes.
        policy_seed: of the policy's sampling.
        level_id: names the level, in 0..2^32-1.
    """
    numbers = {
        "inference_delay": inference_delay,
        "execute_horizon": execute_horizon,
        "env_seed": env_seed,
        "policy_seed": policy_seed,
        **dict(fields.leaves(decode, "decode.")),
        **dict(fields.leaves(sampler, "sampler.")),
    }
    arrays = {name: jnp.asarray(x, jnp.float32 if isinstance(x, float) else jnp.int32) for name, x in numbers.items()}
    return {**arrays, "level_id": jnp.asarray(level_id, jnp.uint32)}


class _Streams(NamedTuple):
    """Keys by name: the environment's apart from the policy's."""

    environment: Key[Array, ""]
    sampling: Key[Array, ""]

    @classmethod
    def of(cls, leaves: Mapping[str, Array]) -> "_Streams":
        environment = jax.random.fold_in(jax.random.key(leaves["env_seed"]), leaves["level_id"])
        return cls(environment, jax.random.fold_in(jax.random.key(leaves["policy_seed"]), 0x9011C4))

    def reset(self, episode: Int[Array, " b"]) -> Key[Array, " b"]:
        return _named(self.environment, episode, jnp.full_like(episode, -1))

    def env(self, episode: Int[Array, " b"], step: Int[Array, " b"]) -> Key[Array, " b"]:
        return _named(self.environment, episode, step)

    def opening(self, episode: Int[Array, " b"]) -> Key[Array, " b"]:
        return _named(self.sampling, episode, jnp.full_like(episode, -1))

    def policy(self, episode: Int[Array, " b"], step: Int[Array, " b"]) -> Key[Array, " b"]:
        return _named(self.sampling, episode, step)


def _named(key: Key[Array, ""], episode: Int[Array, " b"], step: Int[Array, " b"]) -> Key[Array, " b"]:
    return jax.vmap(lambda e, t: jax.random.fold_in(jax.random.fold_in(key, e), t))(episode, step)
