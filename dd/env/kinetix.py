"""Kinetix levels under the real-time-chunking protocol, simulated on their active entities only."""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from dd import fields
from dd.env import engine, solver, symbolic
from dd.env import level as levels
from dd.env.base import AbstractEnv, Outcome, Spec
from dd.env.contacts import Contacts
from dd.env.scene import Bodies, Scene, scene

_DENSE = 0.1  # kinetix's dense_reward_scale


class World(NamedTuple):
    """A level as arrays.

    Attributes:
        scene: what the physics needs.
        observation: where the moving numbers stand in the observation.
        action_noise: standard deviation of the noise on every action.
    """

    scene: Scene
    observation: symbolic.Observation
    action_noise: Float[Array, ""]


class State(NamedTuple):
    """An episode's state.

    Attributes:
        bodies: how the shapes are placed and move.
        impulses: of the physics step before.
        distance: between the shapes that must meet, after the last step; -1 before the first.
        step: env steps taken.
    """

    bodies: Bodies
    impulses: solver.Impulses
    distance: Float[Array, ""]
    step: Int[Array, ""]


@fields.configuration
class Kinetix(AbstractEnv):
    """One Kinetix level (arXiv 2410.23208) with continuous actions and the symbolic-flat observation.

    Protocol of real-time chunking (arXiv 2506.07339): N(0, action_noise^2) on every action, `frame_skip` physics steps of
    1/60 s per env step, time-out after `max_steps`. Reward: 1 when the green shape meets the blue one, -1 when it meets
    a red one, and 0.1 x the distance gained. Actions: motors in [-1, 1], then thrusters in [0, 1].

    With `cut`, inactive entities, which kinetix pads every level with, are left out of the physics. The observation
    keeps the layout of the uncut level, and so do the actions.
    """

    level_name: str = fields.field(hashed=False)
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

    def level(self) -> World:
        """The level's arrays, cut to its active entities where `cut` says so."""
        full = levels.read(self._file())
        kept = self._kept(full)
        # A pair is one of the uncut level; cut, it has other indices, or is not there.
        forgetful = tuple(levels.renamed(full, kept, each) for each in solver.rounds(full.sizes).forgetful)
        world = World(
            scene=scene(levels.cut(full, kept), forgetful),
            observation=symbolic.observation(full, kept, engine.GRAVITY),
            action_noise=np.float32(self.action_noise),
        )
        return jax.tree.map(jnp.asarray, world)

    def level_id(self) -> int:
        """The first 32 bits of the file's digest."""
        return int(fields.file_digest(self._file())[:8], 16)

    def program(self) -> dict[str, Any]:
        """Sizes of the simulated arrays and of the observation, steps and frame skip; not the level."""
        full = levels.read(self._file())
        return {
            "_target_": fields.qualified_name(type(self)),
            "sizes": [len(each) for each in self._kept(full)],
            "uncut": list(full.sizes),
            "actions": [full.motor_bindings, full.thruster_bindings],
            "observation": symbolic.width(full),
            "frame_skip": self.frame_skip,
            "max_steps": self.max_steps,
        }

    def reset(self, level: World, key: Key[Array, ""]) -> State:
        """The level's start, the same for every `key`."""
        return State(level.scene.start, solver.at_rest(level.scene), distance=jnp.float32(-1.0), step=jnp.int32(0))

    def observe(self, level: World, state: State) -> Float[Array, "o"]:
        """The symbolic-flat observation of the uncut level."""
        return symbolic.render(level.observation, state.bodies)

    def step(self, level: World, state: State, action: Float[Array, "a"], key: Key[Array, ""]) -> tuple[State, Outcome]:
        """Add the noise and run `frame_skip` physics steps; the first of them that touches a goal or a loss decides."""
        noisy = action + level.action_noise * jax.random.normal(key, action.shape)
        order = solver.rounds(levels.read(self._file()).sizes)

        def physics(carry: tuple[Bodies, solver.Impulses], _: None) -> tuple[tuple, tuple[Array, Array]]:
            *carry, contacts = engine.advance(level.scene, order, *carry, noisy)
            return tuple(carry), (_verdict(level.scene, contacts), _distance(level.scene, carry[0]))

        start = (state.bodies, state.impulses)
        (bodies, impulses), (verdicts, distances) = jax.lax.scan(physics, start, None, length=self.frame_skip)
        decided = verdicts != 0
        index = jnp.where(decided.any(), decided.argmax(), self.frame_skip - 1)
        verdict, distance = verdicts[index], distances[index]
        gained = jnp.where(state.distance == -1, 0.0, state.distance - distance)
        gained = jnp.nan_to_num(gained, nan=0.0, posinf=0.0, neginf=0.0)
        following = State(bodies, impulses, distance, state.step + 1)
        done = decided.any() | _broken(bodies) | (following.step >= self.max_steps)
        return following, Outcome(verdict + _DENSE * gained, gained, done, verdict > 0)

    def _file(self) -> pathlib.Path:
        return levels.find(self.level_name, self.worlds)

    def _kept(self, full: levels.Level) -> levels.Kept:
        return levels.active(full) if self.cut else levels.whole(full)


def _verdict(level: Scene, contacts: tuple[Contacts, ...]) -> Float[Array, ""]:
    """-1 lost, 1 solved, 0 neither; lost goes first."""
    first, _, cr, cc = contacts
    kinds = list(zip(level.pairs, (first, cr, cc), strict=True))
    met = [jnp.any(pairs.goal & each.active) for pairs, each in kinds]
    lost = [jnp.any(pairs.loss & each.active) for pairs, each in kinds]
    return jnp.where(jnp.any(jnp.stack(lost)), -1.0, jnp.where(jnp.any(jnp.stack(met)), 1.0, 0.0))


def _distance(level: Scene, bodies: Bodies) -> Float[Array, ""]:
    total = jnp.float32(0)
    for pairs in level.pairs:
        between = bodies.position[:, pairs.a] - bodies.position[:, pairs.b]
        total += jnp.sum(pairs.goal * jnp.linalg.norm(between, axis=0))
    return total


def _broken(bodies: Bodies) -> Bool[Array, ""]:
    return jnp.stack([jnp.isnan(x).any() for x in bodies]).any()
