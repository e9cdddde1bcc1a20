"""Kinetix levels under the real-time-chunking protocol, simulated on their active entities only."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from dd import fields
from dd.env import benchmark, symbolic
from dd.env import level as levels
from dd.env import scene as scenes
from dd.env.base import AbstractEnv, Outcome, Spec
from dd.env.engine import Engine, Touching
from dd.env.scene import GRAVITY, Bodies, Scene
from dd.env.solver import Impulses

_DENSE = 0.1  # kinetix's dense_reward_scale


class World(NamedTuple):
    """A level as arrays.

    Attributes:
        scene: shapes, joints and thrusters.
        goal: by kind of pair: a contact solves the level.
        loss: a contact loses it.
        observation: where the shapes' numbers stand in the observation.
        motors: the action dimension of each joint's motor.
        thrusters: the action dimension of each thruster.
        action_noise: standard deviation of the noise on every action.
    """

    scene: Scene
    goal: Touching
    loss: Touching
    observation: symbolic.Observation
    motors: Int[Array, "j"]
    thrusters: Int[Array, "t"]
    action_noise: Float[Array, ""]


class State(NamedTuple):
    """An episode's state.

    Attributes:
        bodies: the shapes.
        impulses: of the last physics step.
        distance: between the shapes that must meet, after the last step; -1 before the first.
        step: env steps taken.
    """

    bodies: Bodies
    impulses: Impulses
    distance: Float[Array, ""]
    step: Int[Array, ""]


@fields.configuration
class Kinetix(AbstractEnv):
    """One Kinetix level (arXiv 2410.23208) with continuous actions and the symbolic-flat observation.

    Protocol of real-time chunking (arXiv 2506.07339): N(0, action_noise^2) on every action, `frame_skip` physics steps
    of 1/60 s per env step, time-out after `max_steps`. Reward: 1 when the green shape meets the blue one, -1 when it
    meets a red one, and 0.1 x the distance gained. Actions: motors in [-1, 1], then thrusters in [0, 1].

    With `cut`, inactive entities, which kinetix pads every level with, are left out of the physics. The observation
    keeps the layout of the uncut level, and so do the actions.
    """

    level: str = fields.field(hashed=False)
    worlds: str | None = fields.field(None, hashed=False)
    action_noise: float = fields.field(0.1, ge=0)
    frame_skip: int = fields.field(2, ge=1)
    max_steps: int = fields.field(256, ge=1)
    cut: bool = True

    def identity(self) -> dict[str, str]:
        """The level's content stands for its name: what a name leads to may change, and a file may move."""
        return {"level": fields.file_digest(self._file())}

    @property
    def name(self) -> str:
        """`l/h17_unicycle` for kinetix-env's own level, `worlds/l/h17_unicycle` for a file of that place."""
        return levels.title(self._file())

    @property
    def published(self) -> bool:
        """Whether the file is one of the benchmark's."""
        return fields.file_digest(self._file()) in benchmark.LEVELS.values()

    def spec(self) -> Spec:
        """The observation of the uncut level (679 numbers for the large set); motors, then thrusters."""
        full = levels.read(self._file())
        motors, thrusters = full.motor_bindings, full.thruster_bindings
        return Spec(
            obs=jax.ShapeDtypeStruct((symbolic.width(full),), jnp.float32),
            action_low=(-1.0,) * motors + (0.0,) * thrusters,
            action_high=(1.0,) * (motors + thrusters),
            max_steps=self.max_steps,
        )

    def load(self) -> World:
        """The level's arrays, cut to its active entities where `cut` says so."""
        full = levels.read(self._file())
        kept = self._kept(full)
        part = levels.cut(full, kept)
        roles = np.concatenate([shape["role"] * shape["active"] for shape in (part.polygon, part.circle)])
        product = [roles[each].prod(axis=1) for each in self._engine().pairs]
        world = World(
            scene=scenes.scene(part),
            goal=Touching(*(each == 2 for each in product)),
            loss=Touching(*(each == 3 for each in product)),
            observation=symbolic.observation(full, kept, GRAVITY[1]),
            motors=part.joint["motor_binding"],
            thrusters=part.motor_bindings + part.thruster["thruster_binding"],
            action_noise=np.float32(self.action_noise),
        )
        return jax.tree.map(jnp.asarray, world)

    def level_id(self) -> int:
        """The first 32 bits of the file's digest."""
        return int(fields.file_digest(self._file())[:8], 16)

    def program(self) -> dict[str, Any]:
        """The engine, the sizes of actions and observation, steps and frame skip; not the level."""
        full = levels.read(self._file())
        return {
            "_target_": fields.qualified_name(type(self)),
            "engine": dataclasses.asdict(self._engine()),
            "actions": [full.motor_bindings, full.thruster_bindings],
            "observation": symbolic.width(full),
            "frame_skip": self.frame_skip,
            "max_steps": self.max_steps,
        }

    def reset(self, level: World, key: Key[Array, ""]) -> State:
        """The level's start, the same for every `key`."""
        return State(scenes.start(level.scene), self._engine().at_rest(), jnp.float32(-1.0), jnp.int32(0))

    def observe(self, level: World, state: State) -> Float[Array, "o"]:
        """The symbolic-flat observation of the uncut level."""
        return symbolic.render(level.observation, state.bodies)

    def step(self, level: World, state: State, action: Float[Array, "a"], key: Key[Array, ""]) -> tuple[State, Outcome]:
        """Add the noise and run `frame_skip` physics steps; the first of them that touches a goal or a loss decides."""
        noisy = action + level.action_noise * jax.random.normal(key, action.shape)
        controls = jnp.concatenate([jnp.clip(noisy[level.motors], -1, 1), jnp.clip(noisy[level.thrusters], 0, 1)])
        engine = self._engine()

        def physics(moving: tuple[Bodies, Impulses], _: None) -> tuple[tuple[Bodies, Impulses], tuple[Array, Array]]:
            bodies, impulses, touching = engine.step(level.scene, *moving, controls)
            return (bodies, impulses), (_verdict(level, touching), self._distance(level, bodies))

        moving = (state.bodies, state.impulses)
        (bodies, impulses), (verdicts, distances) = jax.lax.scan(physics, moving, None, length=self.frame_skip)
        decided = verdicts != 0
        index = jnp.where(decided.any(), decided.argmax(), -1)
        distance = distances[index]
        broken = _broken(bodies)
        verdict = jnp.where(broken, 0.0, verdicts[index])  # what is not a number touches everything
        gained = jnp.where(state.distance == -1, 0.0, state.distance - distance)
        gained = jnp.nan_to_num(gained, nan=0.0, posinf=0.0, neginf=0.0)
        following = State(bodies, impulses, distance, state.step + 1)
        done = decided.any() | broken | (following.step >= self.max_steps)
        return following, Outcome(verdict + _DENSE * gained, gained, done, verdict > 0)

    def _distance(self, level: World, bodies: Bodies) -> Float[Array, ""]:
        total = jnp.float32(0)
        for each, goal in zip(self._engine().pairs, level.goal, strict=True):
            apart = bodies.position[each[:, 0]] - bodies.position[each[:, 1]]
            total += jnp.sum(goal * jnp.linalg.norm(apart, axis=-1))
        return total

    def _engine(self) -> Engine:
        full = levels.read(self._file())
        return Engine.of(full.sizes, self._kept(full))

    def _file(self) -> pathlib.Path:
        return levels.find(self.level, self.worlds)

    def _kept(self, full: levels.Level) -> levels.Kept:
        return levels.active(full) if self.cut else levels.whole(full)


def _verdict(level: World, touching: Touching) -> Float[Array, ""]:
    """-1 lost, 1 solved, 0 neither; lost goes first."""
    met = [jnp.any(goal & each) for goal, each in zip(level.goal, touching, strict=True)]
    lost = [jnp.any(loss & each) for loss, each in zip(level.loss, touching, strict=True)]
    return jnp.where(jnp.any(jnp.stack(lost)), -1.0, jnp.where(jnp.any(jnp.stack(met)), 1.0, 0.0))


def _broken(bodies: Bodies) -> Bool[Array, ""]:
    return jnp.stack([jnp.isnan(x).any() for x in bodies]).any()
