"""Demonstrations: what a mixture of experts did on one level."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, PyTree

from dd import fields
from dd.env.base import AbstractEnv
from dd.model import actor
from dd.model.actor import Actor, History
from dd.stage import checkpoints
from dd.stage.base import Runner, Work
from dd.stage.demonstrations import AbstractDemos
from dd.stage.expert import Expert

_BLOCK = 64  # env steps per call of the compiled program
_CHOICE, _ACTION, _ENV = range(3)  # what a key is drawn for


class NoExpertError(Exception):
    """No checkpoint is good enough to demonstrate."""


class _Stream(NamedTuple):
    """One of the environments that run side by side."""

    state: PyTree[Array]
    history: History
    episode: Int[Array, ""]


@fields.configuration
class Demos(AbstractDemos):
    """At least `num_transitions` steps by a mixture of experts (arXiv 2506.07339, its public benchmark).

    Of every expert one checkpoint is drawn, once, among those with a solve rate of `min_solve_rate` or more; an expert
    without one is left out. Each episode acts by one of these, at random. The experts see four frames, the data keep
    one.
    """

    experts: tuple[Expert, ...]
    num_transitions: int = fields.field(65_536, ge=1)
    num_envs: int = fields.field(64, ge=1)
    min_solve_rate: float = fields.field(0.65, ge=0.0, le=1.0)
    validation_fraction: float = fields.field(0.05, gt=0.0, lt=1.0)
    seed: int = fields.field(0, ge=0, lt=2**31, leaf=True)

    @property
    def env(self) -> AbstractEnv:
        """The level that all experts play."""
        return self.experts[0].env

    @property
    def size(self) -> int:
        """`num_transitions`."""
        return self.num_transitions

    def program(self) -> Any:
        """What one block of steps closes over."""
        return {"env": self.env.program(), "num_envs": self.num_envs}

    def build(self) -> Runner:
        """One compiled block of steps for every level of one shape."""
        programs = _programs(self.env)

        def run(stage: Demos, work: Work) -> dict[str, Any]:
            experts = [checkpoints.load(work.result(expert)) for expert in stage.experts]
            mixture, rates = stage.draw(experts)
            played = stage.play(programs, mixture, work)
            flat = played.pop("obs").reshape(played["done"].size, -1)
            columns = np.flatnonzero((flat != flat[0]).any(axis=0)).astype(np.int32)
            summary = stage.write(work.path, obs=flat[:, columns], columns=columns, constant=flat[0], **played)
            return summary | {"expert_solve_rates": rates}

        return run

    def draw(self, experts: list[checkpoints.Checkpoints]) -> tuple[checkpoints.Mixture, list[float]]:
        """One checkpoint per expert that has a good enough one, and their solve rates.

        Raises:
            NoExpertError: when none has.
        """
        chosen = []
        for number, expert in enumerate(experts):
            good = np.flatnonzero(expert.solve_rates >= self.min_solve_rate)
            if len(good):
                draw = np.random.default_rng([self.seed, number])
                chosen.append((expert, int(draw.choice(good))))
        if not chosen:
            best = max(float(np.max(expert.solve_rates)) for expert in experts)
            raise NoExpertError(
                f"no expert of {self.env.name} solves {self.min_solve_rate:g} of its episodes (best {best:.2f}); "
                "train one for longer (expert.total_steps) or lower demos.min_solve_rate"
            )
        return checkpoints.mix(chosen), [float(expert.solve_rates[index]) for expert, index in chosen]

    def play(self, programs: tuple[Any, Any], mixture: checkpoints.Mixture, work: Work) -> dict[str, np.ndarray]:
        """Act for the wanted number of transitions; arrays [e, t, ...]."""
        steps = max(math.ceil(self.num_transitions / self.num_envs), 1)
        level, key = self.env.load(), jax.random.key(self.seed)
        key = jax.random.fold_in(key, self.env.level_id())
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.num_envs))
        arguments = (level, jax.tree.map(jnp.asarray, mixture), keys)
        begin, block = programs
        streams, parts = begin(*arguments), []
        with work.progress(total=steps * self.num_envs, unit="steps") as advance:
            for start in range(0, steps, _BLOCK):
                streams, recorded = block(*arguments, streams, start)
                parts.append(jax.device_get(recorded))
                advance(_BLOCK * self.num_envs)
        joined = jax.tree.map(lambda *each: np.moveaxis(np.concatenate(each), 0, 1)[:, :steps], *parts)
        return dict(zip(("obs", "action", "done", "solved"), joined, strict=True))


def _programs(env: AbstractEnv) -> tuple[Any, Any]:
    """Programs that begin all streams, and that advance them by a block of steps."""
    low, high = env.spec().action_low, env.spec().action_high

    def begin(level: Any, columns: Any, key: Key[Array, ""], episode: Int[Array, ""]) -> _Stream:
        state = env.reset(level, jax.random.fold_in(key, episode))
        frame = actor.select(env.observe(level, state), columns)
        return _Stream(state, actor.begin(frame, len(low)), episode)

    def step(level: Any, columns: Any, actors: Actor, key: Key[Array, ""], stream: _Stream, t: Int[Array, ""]) -> Any:
        size = actors.log_std.shape[0]
        keys = [jax.random.fold_in(key, purpose) for purpose in (_CHOICE, _ACTION, _ENV)]
        which = jax.random.randint(jax.random.fold_in(keys[_CHOICE], stream.episode), (), 0, size)
        obs = env.observe(level, stream.state)
        action = checkpoints.act(actors, which, stream.history, jax.random.fold_in(keys[_ACTION], t), low, high)
        noise = jax.random.fold_in(jax.random.fold_in(keys[_ENV], stream.episode), t)
        state, outcome = env.step(level, stream.state, action, noise)
        history = actor.push(stream.history, actor.select(env.observe(level, state), columns), action)
        fresh = begin(level, columns, keys[_ENV], stream.episode + 1)
        going = _Stream(state, history, stream.episode)
        follows = jax.tree.map(lambda a, b: jnp.where(outcome.done, a, b), fresh, going)
        return follows, (obs, action, outcome.done, outcome.solved)

    def start(level: Any, mixture: Any, keys: Key[Array, " e"]) -> Any:
        noise = jax.vmap(jax.random.fold_in, (0, None))(keys, _ENV)
        first = jnp.asarray(0, jnp.int32)
        return jax.vmap(begin, (None, None, 0, None))(level, mixture.columns, noise, first)

    def block(level: Any, mixture: Any, keys: Key[Array, " e"], streams: Any, first: Int[Array, ""]) -> Any:
        advance = jax.vmap(step, (None, None, None, 0, 0, None))

        def body(streams: Any, t: Int[Array, ""]) -> Any:
            return advance(level, mixture.columns, mixture.actors, keys, streams, t)

        return jax.lax.scan(body, streams, first + jnp.arange(_BLOCK))

    return jax.jit(start), jax.jit(block)
