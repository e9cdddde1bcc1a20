"""One step of jax2d's physics, which Kinetix is made of: gravity, contacts, motors, thrusters, solver, motion."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax2d import collision
from jax2d.joint import apply_motor
from jax2d.sim_state import CollisionManifold, RigidBody, SimParams
from jaxtyping import Array, Bool, Float, Int

from dd.env import scene as scenes
from dd.env import solver
from dd.env.level import Kept, Sizes
from dd.env.pairs import Pairs, Rounds, pairs, rounds
from dd.env.polygons import touch
from dd.env.scene import Bodies, Scene
from dd.env.solver import Impulses
from dd.env.vectors import cross, turned
from dd.env.worlds import worlds_last

_PARAMS = SimParams()
_POINTS = (2, 1, 1)  # of contact, of a pair of rr, cr, cc
_CIRCLES = (collision.generate_manifold_circle_polygon, collision.generate_manifold_circle_circle)


class Touching(NamedTuple):
    """Which pairs touch, by kind as in `Pairs`."""

    rr: Bool[Array, "rr"]
    cr: Bool[Array, "cr"]
    cc: Bool[Array, "cc"]


@dataclasses.dataclass(frozen=True)
class Engine:
    """Steps of 1/60 s on a level's kept entities, the solver's rounds being those of the uncut level.

    Attributes:
        sizes: entities simulated.
        rounds: of rr, cr and cc.
    """

    sizes: Sizes
    rounds: tuple[Rounds, Rounds, Rounds]

    @classmethod
    def of(cls, uncut: Sizes, kept: Kept) -> "Engine":
        """For the kept entities of a level."""
        return cls(Sizes(*(len(each) for each in kept)), rounds(uncut, kept))

    @property
    def pairs(self) -> Pairs:
        """The pairs of shapes that are looked at."""
        return pairs(self.sizes)

    def at_rest(self) -> Impulses:
        """Before the first step."""
        contacts = (jnp.zeros((points, 2, len(each))) for points, each in zip(_POINTS, self.pairs, strict=True))
        return Impulses(tuple(contacts), jnp.zeros((self.sizes.joint, 3)))

    def step(
        self, scene: Scene, bodies: Bodies, impulses: Impulses, controls: Float[Array, "c"]
    ) -> tuple[Bodies, Impulses, Touching]:
        """Advance by one step.

        Args:
            scene: the level.
            bodies: its shapes.
            impulses: of the step before.
            controls: of each joint's motor, in [-1, 1], then of each thruster, in [0, 1].
        """
        moves = (scene.shapes.inverse_mass != 0)[:, None]
        bodies = bodies._replace(velocity=bodies.velocity + scene.gravity * _PARAMS.dt * moves)
        found = self._find(scene, bodies, impulses)
        bodies = self._drive(scene, bodies, controls)
        bodies, impulses = solver.solve(self.pairs, self.rounds, scene, bodies, impulses.joints, found)
        moved = Bodies(
            position=_clip(bodies.position + bodies.velocity * _PARAMS.dt, _PARAMS.clip_position),
            rotation=bodies.rotation + bodies.angular_velocity * _PARAMS.dt,
            velocity=_clip(bodies.velocity, _PARAMS.clip_velocity),
            angular_velocity=_clip(bodies.angular_velocity, _PARAMS.clip_angular_velocity),
        )
        return moved, impulses, Touching(*(each.active[0] for each in found))

    def _find(self, scene: Scene, bodies: Bodies, impulses: Impulses) -> tuple[CollisionManifold, ...]:
        """The contacts by kind, arrays [points, pairs, ...]."""
        polygons = worlds_last(functools.partial(touch, self.pairs.rr))(scene, bodies, impulses.contacts[0])
        shapes = scenes.placed(scene, bodies)
        circles = (
            _circles(find, shapes, each, held[0])
            for find, each, held in zip(_CIRCLES, self.pairs[1:], impulses.contacts[1:], strict=True)
        )
        return (polygons, *circles)

    def _drive(self, scene: Scene, bodies: Bodies, controls: Float[Array, "c"]) -> Bodies:
        """Motors, then thrusters."""
        shapes, joints, thrusters = scene.shapes, scene.joints, scene.thrusters
        now = scenes.placed(scene, bodies)
        a, b = joints.a_index, joints.b_index
        ends = (scenes.picked(now, each) for each in (a, b))
        first, second = jax.vmap(apply_motor, (0, 0, 0, 0, None))(*ends, joints, controls[: self.sizes.joint], _PARAMS)
        spin = bodies.angular_velocity.at[a].add(first).at[b].add(second)

        at = thrusters.object_index
        turn = bodies.rotation[at]
        lever = turned(thrusters.relative_position.T, jnp.cos(turn), jnp.sin(turn))
        angle = thrusters.rotation + turn
        along = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        power = thrusters.power * thrusters.active * controls[self.sizes.joint :]
        force = along * (power * _PARAMS.base_thruster_power * _PARAMS.dt)
        return bodies._replace(
            angular_velocity=spin.at[at].add(shapes.inverse_inertia[at] * cross(lever, force)),
            velocity=bodies.velocity.at[at].add((shapes.inverse_mass[at] * force).T),
        )


def _circles(
    find: Callable[..., CollisionManifold],
    shapes: RigidBody,
    pairs: Int[np.ndarray, "c 2"],
    impulses: Float[Array, "2 c"],
) -> CollisionManifold:
    """Contacts of circles by jax2d, [1 point, c pairs, ...]."""
    first, second = (scenes.picked(shapes, each) for each in pairs.T)
    normal, tangent = impulses
    nothing = jnp.zeros_like(normal)
    before = CollisionManifold(
        normal=nothing,
        penetration=nothing,
        collision_point=nothing,
        active=jnp.ones_like(normal, bool),
        acc_impulse_normal=normal,
        acc_impulse_tangent=tangent,
        restitution_velocity_target=nothing,
    )
    return jax.tree.map(lambda x: x[None], jax.vmap(find)(first, second, before))


def _clip(x: Float[Array, "*n"], limit: int | float) -> Float[Array, "*n"]:
    return jnp.clip(x, -limit, limit)
