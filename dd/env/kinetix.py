"""Kinetix levels under the real-time-chunking protocol, simulated on their active entities only."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax2d.engine import calculate_collision_matrix
from jax2d.sim_state import CollisionManifold, Joint, RigidBody, SimParams, SimState, Thruster
from jaxtyping import Array, Bool, Float, Int, Key

from dd import fields
from dd.env import benchmark, symbolic
from dd.env import level as levels
from dd.env.base import AbstractEnv, Outcome, Spec
from dd.env.engine import Engine, Pairs, no_contacts, pairs, static_params

_PHYSICS = SimParams()
_GRAVITY = (0.0, -9.81)
_DENSE = 0.1  # kinetix's dense_reward_scale


class World(NamedTuple):
    """A level as arrays.

    Attributes:
        sim: jax2d's state at an episode's start.
        pairs: the pairs of shapes whose contacts are computed.
        goal: per kind of pair, as `pairs`: a contact solves the level.
        loss: a contact loses it.
        observation: where the numbers of `sim` stand in the observation.
        motors: the action dimension of each joint's motor.
        thrusters: the action dimension of each thruster.
        action_noise: standard deviation of the noise on every action.
    """

    sim: SimState
    pairs: Pairs
    goal: tuple[Bool[Array, "rr"], Bool[Array, "cr"], Bool[Array, "cc"]]
    loss: tuple[Bool[Array, "rr"], Bool[Array, "cr"], Bool[Array, "cc"]]
    observation: symbolic.Observation
    motors: Int[Array, "j"]
    thrusters: Int[Array, "t"]
    action_noise: Float[Array, ""]


class State(NamedTuple):
    """An episode's state.

    Attributes:
        sim: jax2d's state.
        distance: between the shapes that must meet, after the last step; -1 before the first.
        step: env steps taken.
    """

    sim: SimState
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
        listed = pairs(part.sizes, full.sizes)
        roles = (part.polygon["role"] * part.polygon["active"], part.circle["role"] * part.circle["active"])
        product = [roles[a][each[:, 0]] * roles[b][each[:, 1]] for (a, b), each in zip(_KINDS, listed, strict=True)]
        world = World(
            sim=_simulation(part, listed),
            pairs=listed,
            goal=tuple(each == 2 for each in product),
            loss=tuple(each == 3 for each in product),
            observation=symbolic.observation(full, kept, _GRAVITY[1]),
            motors=part.joint["motor_binding"],
            thrusters=part.motor_bindings + part.thruster["thruster_binding"],
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
        return State(level.sim, distance=jnp.float32(-1.0), step=jnp.int32(0))

    def observe(self, level: World, state: State) -> Float[Array, "o"]:
        """The symbolic-flat observation of the uncut level."""
        return symbolic.render(level.observation, state.sim)

    def step(self, level: World, state: State, action: Float[Array, "a"], key: Key[Array, ""]) -> tuple[State, Outcome]:
        """Add the noise and run `frame_skip` physics steps; the first of them that touches a goal or a loss decides."""
        noisy = action + level.action_noise * jax.random.normal(key, action.shape)
        controls = jnp.concatenate([jnp.clip(noisy[level.motors], -1, 1), jnp.clip(noisy[level.thrusters], 0, 1)])
        engine = Engine(_sizes(level.sim), levels.read(self._file()).sizes, level.pairs)

        def physics(sim: SimState, _: None) -> tuple[SimState, tuple[Array, Array]]:
            sim, contacts = engine.step(sim, _PHYSICS, controls)
            return sim, (_verdict(level, contacts), _distance(level, sim))

        sim, (verdicts, distances) = jax.lax.scan(physics, state.sim, None, length=self.frame_skip)
        decided = verdicts != 0
        index = jnp.where(decided.any(), decided.argmax(), -1)
        distance = distances[index]
        verdict = jnp.where(_broken(sim), 0.0, verdicts[index])  # what is not a number touches everything
        gained = jnp.where(state.distance == -1, 0.0, state.distance - distance)
        gained = jnp.nan_to_num(gained, nan=0.0, posinf=0.0, neginf=0.0)
        following = State(sim, distance, state.step + 1)
        done = decided.any() | _broken(sim) | (following.step >= self.max_steps)
        return following, Outcome(verdict + _DENSE * gained, gained, done, verdict > 0)

    def _file(self) -> pathlib.Path:
        return levels.find(self.level, self.worlds)

    def _kept(self, full: levels.Level) -> levels.Kept:
        return levels.active(full) if self.cut else levels.whole(full)


_KINDS = ((0, 0), (1, 0), (1, 1))  # which shapes a pair of rr, cr, cc names: 0 polygons, 1 circles


def _sizes(sim: SimState) -> levels.Sizes:
    return levels.Sizes(*(len(kind.active) for kind in (sim.polygon, sim.circle, sim.joint, sim.thruster)))


def _verdict(level: World, contacts: tuple[CollisionManifold, ...]) -> Float[Array, ""]:
    """-1 lost, 1 solved, 0 neither; lost goes first."""
    met = [jnp.any(goal & each.active) for goal, each in zip(level.goal, contacts, strict=True)]
    lost = [jnp.any(loss & each.active) for loss, each in zip(level.loss, contacts, strict=True)]
    return jnp.where(jnp.any(jnp.stack(lost)), -1.0, jnp.where(jnp.any(jnp.stack(met)), 1.0, 0.0))


def _distance(level: World, sim: SimState) -> Float[Array, ""]:
    shapes = (sim.polygon.position, sim.circle.position)
    total = jnp.float32(0)
    for (a, b), listed, goal in zip(_KINDS, level.pairs, level.goal, strict=True):
        apart = jnp.linalg.norm(shapes[a][listed[:, 0]] - shapes[b][listed[:, 1]], axis=-1)
        total += jnp.sum(goal * apart)
    return total


def _broken(sim: SimState) -> Bool[Array, ""]:
    return jnp.stack([jnp.isnan(x).any() for x in jax.tree.leaves(sim)]).any()


def _simulation(level: levels.Level, listed: Pairs) -> SimState:
    """jax2d's state at the start, without contacts."""
    kinds = {
        name: kind(**{item.name: getattr(level, name)[item.name] for item in dataclasses.fields(kind)})
        for name, kind in (("polygon", RigidBody), ("circle", RigidBody), ("joint", Joint), ("thruster", Thruster))
    }
    rr, cr, cc = no_contacts(listed)
    return SimState(
        **kinds,
        collision_matrix=calculate_collision_matrix(static_params(level.sizes), kinds["joint"]),
        acc_rr_manifolds=rr,
        acc_cr_manifolds=cr,
        acc_cc_manifolds=cc,
        gravity=np.array(_GRAVITY, np.float32),
    )
