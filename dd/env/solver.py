"""Sequential impulses (Catto, "Iterative Dynamics with Temporal Coherence", 2005), in jax2d's order, for many worlds.

jax2d picks the shapes of every contact by index, anew in each round of each iteration, and adds the impulses back by
index: nearly all of a step's time on a CPU. Here all contacts of a kind are computed in every round, and a mask says
which are in it; a fixed 0/1 matrix hands the shapes' velocities to the contacts, its transpose the impulses back. What
stays the same during an iteration, levers and effective masses, is computed once.

The last axis, w, of every array is worlds that run side by side (`worlds`); what they share has length 1 there.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax2d.maths import zero_to_one
from jax2d.sim_state import CollisionManifold, Joint, SimParams, StaticSimParams
from jaxtyping import Array, Bool, Float, Int

from dd.env.pairs import Pairs, Rounds
from dd.env.scene import Bodies, Scene
from dd.env.vectors import cross, swept, turned
from dd.env.worlds import worlds_last

_PARAMS = SimParams()
_ITERATIONS = StaticSimParams().num_solver_iterations


class Impulses(NamedTuple):
    """What one step's solver ended with and the next one starts from.

    Attributes:
        contacts: by kind of pair, of each point, along normal and tangent.
        joints: x, y and angular.
    """

    contacts: tuple[Float[Array, "2 2 rr *w"], Float[Array, "1 2 cr *w"], Float[Array, "1 2 cc *w"]]
    joints: Float[Array, "j 3 *w"]


def solve(
    pairs: Pairs,
    rounds: tuple[Rounds, Rounds, Rounds],
    scene: Scene,
    bodies: Bodies,
    joined: Float[Array, "j 3"],
    found: tuple[CollisionManifold, ...],
) -> tuple[Bodies, Impulses]:
    """Velocities, and places where joints gape, that satisfy all joints and contacts as well as ten iterations can.

    Args:
        pairs: of shapes that may touch.
        rounds: of rr, cr and cc.
        scene: the level.
        bodies: its shapes, after gravity, motors and thrusters.
        joined: the joints' impulses of the step before.
        found: jax2d's manifolds by kind, [points, pairs, ...], with the impulses of the step before.
    """

    return worlds_last(functools.partial(_solve, pairs, rounds))(scene, bodies, joined, found)


def _solve(
    pairs: Pairs,
    rounds: tuple[Rounds, Rounds, Rounds],
    scene: Scene,
    bodies: Bodies,
    joined: Float[Array, "j 3 w"],
    found: tuple[CollisionManifold, ...],
) -> tuple[Bodies, Impulses]:
    inverse = _inverse(scene)
    contacts = [Contacts.of(scene, *each) for each in zip(pairs, rounds, found, strict=True)]
    held = tuple(jnp.stack([each.acc_impulse_normal, each.acc_impulse_tangent], axis=1) for each in found)
    joints = Joints.of(scene, bodies)
    place, motion = bodies.position, jnp.append(bodies.velocity, bodies.angular_velocity[:, None], axis=1)
    pushes = [each.start(place, before) for each, before in zip(contacts, held, strict=True)]
    motion = motion + inverse * joints.start(joined) + sum(pushes)

    def iterate(_: Int[Array, ""], carry: tuple) -> tuple:
        place, motion, joined, held = carry
        place, motion, joined = joints.solve(inverse, place, motion, joined)
        solved = []
        for each, before in zip(contacts, held, strict=True):
            motion, after = each.solve(place, motion, before)
            solved.append(after)
        return place, motion, joined, tuple(solved)

    place, motion, joined, held = lax.fori_loop(0, _ITERATIONS, iterate, (place, motion, joined, held))
    return Bodies(place, bodies.rotation, motion[:, :2], motion[:, 2]), Impulses(held, joined)


class Rows(NamedTuple):
    """One point of a kind's contacts, as the shapes stand now: how motion and impulses act on each other there.

    The relative speed along normal and tangent is `along` times the motion of the pair's shapes; an impulse times
    `along` is the momentum that they get. cc: the c first shapes, then the second ones.

    Attributes:
        along: for normal and tangent, (x, y, angular) of each shape.
        normal_mass, tangent_mass: inverse, as felt at the point.
        coupling: relative speed along the tangent that a normal impulse of 1 gives.
    """

    along: Float[Array, "2 cc 3 w"]
    normal_mass: Float[Array, "c w"]
    tangent_mass: Float[Array, "c w"]
    coupling: Float[Array, "c w"]


@dataclasses.dataclass(frozen=True)
class Contacts:
    """The contacts of one kind in one step. cc: the pairs' c first shapes, then their second; p: points of a contact.

    Attributes:
        ends: 1 where a row's shape stands.
        inverse: inverse mass, twice, and inertia of the shapes.
        friction: of the pairs.
        round: number of the round in which a touching pair is solved.
        pushes: which points push.
        point, normal: where and along what.
        bias: speed that drives the shapes apart, minus the one they met with and give back.
        dealt: the rounds.
    """

    ends: Float[np.ndarray, "cc n"]
    inverse: Float[Array, "cc 3 v"]
    friction: Float[Array, "c v"]
    round: Int[Array, "c w"]
    pushes: Bool[Array, "p c w"]
    point: Float[Array, "p c 2 w"]
    normal: Float[Array, "p c 2 w"]
    bias: Float[Array, "p c w"]
    dealt: Rounds

    @classmethod
    def of(cls, scene: Scene, pairs: Int[np.ndarray, "c 2"], dealt: Rounds, found: CollisionManifold) -> "Contacts":
        """From jax2d's manifolds, [points, pairs, ...]."""
        first, second = pairs.T
        both = pairs.T.ravel()
        shapes = scene.shapes
        able = scene.collides[first, second] & shapes.active[first] & shapes.active[second]
        able &= (shapes.inverse_mass[first] != 0) | (shapes.inverse_mass[second] != 0)
        touches = found.active.any(axis=0)
        place = dealt.pairs - touches.sum(axis=0) + jnp.cumsum(touches, axis=0) - 1
        slope = _PARAMS.baumgarte_coefficient_collision / _PARAMS.dt
        apart = slope * jnp.maximum(0.0, found.penetration - _PARAMS.slop)
        rough = jnp.square(shapes.friction * _PARAMS.base_friction)
        return cls(
            ends=np.eye(len(shapes.active), dtype=np.float32)[both],
            inverse=_inverse(scene)[both],
            friction=jnp.sqrt(rough[first] + rough[second]),
            round=place % dealt.count,
            pushes=found.active & able,
            point=found.collision_point,
            normal=found.normal,
            bias=apart - found.restitution_velocity_target,
            dealt=dealt,
        )

    def rows(self, place: Float[Array, "n 2 w"], p: int) -> Rows:
        """Where the shapes are at `place`."""
        sides = jnp.repeat(jnp.array([-1.0, 1.0]), len(self.ends) // 2)[:, None]
        arms = _twice(self.point[p]) - _hand(self.ends, place)

        def along(direction: Float[Array, "c 2 w"]) -> Float[Array, "cc 3 w"]:
            direction = sides[..., None] * _twice(direction)
            return jnp.append(direction, cross(arms, direction)[:, None], axis=1)

        def felt(a: Float[Array, "cc 3 w"], b: Float[Array, "cc 3 w"]) -> Float[Array, "c w"]:
            return sum(jnp.split(_inner(self.inverse * a, b), 2))

        normal, tangent = along(self.normal[p]), along(_tangent(self.normal[p]))
        masses = (zero_to_one(felt(each, each)) for each in (normal, tangent))
        return Rows(jnp.stack([normal, tangent]), *masses, felt(normal, tangent))

    def start(self, place: Float[Array, "n 2 w"], impulses: Float[Array, "p 2 c w"]) -> Float[Array, "n 3 w"]:
        """The motion that the last step's impulses give the shapes."""
        held = jnp.where(self.pushes[:, None], impulses, 0.0)
        return sum(self._push(self.rows(place, p), held[p]) for p in range(len(held)))

    def solve(
        self, place: Float[Array, "n 2 w"], motion: Float[Array, "n 3 w"], impulses: Float[Array, "p 2 c w"]
    ) -> tuple[Float[Array, "n 3 w"], Float[Array, "p 2 c w"]]:
        """One iteration: point after point, round after round."""
        solved = []
        for p in range(len(impulses)):
            rows, impulse = self.rows(place, p), impulses[p]
            for number in range(self.dealt.count):
                change = self._round(number, p, rows, motion, impulse)
                motion, impulse = motion + self._push(rows, change), impulse + change
                if self.dealt.forgetful[number]:
                    impulse = impulse.at[:, -1].set(0.0)
            solved.append(impulse)
        return motion, jnp.stack(solved)

    def _push(self, rows: Rows, impulse: Float[Array, "2 c w"]) -> Float[Array, "n 3 w"]:
        """The motion that impulses give the shapes."""
        normal, tangent = (_twice(each)[:, None] * along for each, along in zip(impulse, rows.along, strict=True))
        return _hand(self.ends.T, self.inverse * (normal + tangent))

    def _round(
        self, number: int, p: int, rows: Rows, motion: Float[Array, "n 3 w"], impulse: Float[Array, "2 c w"]
    ) -> Float[Array, "2 c w"]:
        """What one round adds to the impulses."""
        moving = _hand(self.ends, motion)
        normal, tangent = (sum(jnp.split(_inner(each, moving), 2)) for each in rows.along)
        along = jnp.maximum(impulse[0] + (self.bias[p] - normal) / rows.normal_mass, 0.0)
        # Friction acts on what the normal impulse leaves.
        left = tangent + rows.coupling * (along - impulse[0])
        limit = self.friction * along
        across = jnp.clip(impulse[1] - left / rows.tangent_mass, -limit, limit)
        chosen = self.pushes[p] & (self.round == number)
        return jnp.where(chosen, jnp.stack([along, across]) - impulse, 0.0)


@dataclasses.dataclass(frozen=True)
class Joints:
    """The joints in one step; a joint's two ends are its first shape and its second.

    Attributes:
        ends: 1 where a shape is at a joint's first end, then at its second.
        holds: which joints hold anything.
        arms: from the centre of each end's shape to the joint.
        mass, inertia: inverse, of the ends' shapes.
        turned: how far the second shape is turned against the first, the joint's own angle taken off.
        joints: jax2d's joints.
    """

    ends: Float[Array, "j 2 n v"]
    holds: Bool[Array, "j v"]
    arms: Float[Array, "j 2 2 w"]
    mass: Float[Array, "j 2 v"]
    inertia: Float[Array, "j 2 v"]
    turned: Float[Array, "j w"]
    joints: Joint

    @classmethod
    def of(cls, scene: Scene, bodies: Bodies) -> "Joints":
        """As the shapes are turned now."""
        joints, shapes = scene.joints, scene.shapes
        index = jnp.stack([joints.a_index, joints.b_index], axis=1)
        ends = jax.nn.one_hot(index, len(shapes.active), axis=2)
        mass, inertia, active, turn = (
            (ends * x).sum(axis=2)
            for x in (shapes.inverse_mass, shapes.inverse_inertia, shapes.active, bodies.rotation)
        )
        own = jnp.stack([joints.a_relative_pos, joints.b_relative_pos], axis=1)
        arms = turned(own, jnp.cos(turn), jnp.sin(turn))
        holds = joints.active & (mass != 0).any(axis=1) & (active != 0).all(axis=1)
        return cls(ends, holds, arms, mass, inertia, turn[:, 1] - turn[:, 0] - joints.rotation, joints)

    def start(self, impulses: Float[Array, "j 3 w"]) -> Float[Array, "n 3 w"]:
        """What the last step's impulses give the shapes."""
        held = jnp.where(self.holds[:, None], impulses, 0.0)
        return sum(self._pull(j, held[j]) for j in range(len(held)))

    def solve(
        self,
        inverse: Float[Array, "n 3 v"],
        place: Float[Array, "n 2 w"],
        motion: Float[Array, "n 3 w"],
        impulses: Float[Array, "j 3 w"],
    ) -> tuple[Float[Array, "n 2 w"], Float[Array, "n 3 w"], Float[Array, "j 3 w"]]:
        """One iteration: joint after joint."""
        solved = []
        for j in range(len(impulses)):
            shift, impulse, kept = self._joint(j, place, motion, impulses[j])
            place = place + inverse[:, :2] * shift
            motion = motion + inverse * self._pull(j, impulse)
            solved.append(kept)
        return place, motion, jnp.stack(solved)

    def _pull(self, j: int, impulse: Float[Array, "3 w"]) -> Float[Array, "n 3 w"]:
        """An impulse pulls the first end's shape along, the second's back."""
        turn = cross(self.arms[j], impulse[None, :2]) + impulse[2]
        pull = jnp.append(jnp.broadcast_to(impulse[:2], (2, *impulse[:2].shape)), turn[:, None], axis=1)
        return self._give(j, pull)

    def _give(self, j: int, what: Float[Array, "2 k w"]) -> Float[Array, "n k w"]:
        """To the first end's shape, and its opposite to the second's."""
        return self.ends[j, 0][:, None] * what[0] - self.ends[j, 1][:, None] * what[1]

    def _joint(
        self, j: int, place: Float[Array, "n 2 w"], motion: Float[Array, "n 3 w"], before: Float[Array, "3 w"]
    ) -> tuple[Float[Array, "n 2 w"], Float[Array, "3 w"], Float[Array, "3 w"]]:
        """What moves the shapes together, this iteration's impulse, and that of all so far."""
        arms, mass, inertia = self.arms[j], self.mass[j], self.inertia[j]
        centre, moving = ((self.ends[j][:, :, None] * x).sum(axis=1) for x in (place, motion))
        points = centre + arms
        gap = points[1] - points[0]
        heavy = 1 / zero_to_one(mass)  # the joint stands nearer to the heavier shape, and at the one that never moves
        share = jnp.where(mass[0] == 0, 0.0, jnp.where(mass[1] == 0, 1.0, heavy[1] / heavy.sum(axis=0)))
        levers = points[0] + share * gap - centre
        ends = moving[:, :2] + swept(moving[:, 2], levers)
        apart = ends[1] - ends[0]
        along = apart / zero_to_one(jnp.sqrt(jnp.square(apart).sum(axis=0)))
        total = zero_to_one(mass.sum(axis=0))
        felt = total + (inertia * jnp.square(cross(arms, along[None]))).sum(axis=0)
        wanted = (apart + _PARAMS.baumgarte_coefficient_joints_v * gap) / zero_to_one(felt)
        impulse = _PARAMS.joint_stiffness * wanted

        joint = jax.tree.map(lambda x: x[j], self.joints)
        spun = inertia * cross(arms, impulse[None])
        faster = (moving[1, 2] - spun[1]) - (moving[0, 2] + spun[0])
        beyond = self.turned[j] - jnp.clip(self.turned[j], joint.min_rotation, joint.max_rotation)
        limited = _PARAMS.baumgarte_coefficient_rjoint_limit_av * beyond
        rigid = faster + _PARAMS.baumgarte_coefficient_fjoint_av * self.turned[j]
        hinged = (jnp.sign(faster) == jnp.sign(limited)) * (faster + limited)
        stops = joint.is_fixed_joint | (joint.motor_has_joint_limits & (beyond != 0))
        turn = stops * jnp.where(joint.is_fixed_joint, rigid, hinged) / zero_to_one(inertia.sum(axis=0))

        holds = self.holds[j]
        shift = jnp.where(holds, _PARAMS.baumgarte_coefficient_joints_p * gap / total, 0.0)
        given = jnp.where(holds, jnp.append(impulse, turn[None], axis=0), 0.0)
        angular = jnp.where(joint.is_fixed_joint, before[2] + turn, 0.0)
        kept = jnp.where(holds, jnp.append(before[:2] + impulse, angular[None], axis=0), 0.0)
        return self._give(j, jnp.stack([shift, shift])), given, kept


def _inverse(scene: Scene) -> Float[Array, "n 3 v"]:
    shapes = scene.shapes
    return jnp.stack([shapes.inverse_mass, shapes.inverse_mass, shapes.inverse_inertia], axis=1)


def _hand(matrix: Float[np.ndarray, "m n"], x: Float[Array, "n k w"]) -> Float[Array, "m k w"]:
    """Rows of x to where a 0/1 matrix says."""
    return jnp.einsum("mn,nkw->mkw", matrix, x, precision=lax.Precision.HIGHEST)


def _twice(x: Float[Array, "c ..."]) -> Float[Array, "cc ..."]:
    return jnp.concatenate([x, x])


def _inner(a: Float[Array, "cc 3 w"], b: Float[Array, "cc 3 w"]) -> Float[Array, "cc w"]:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _tangent(normal: Float[Array, "c 2 w"]) -> Float[Array, "c 2 w"]:
    return jnp.stack([normal[:, 1], -normal[:, 0]], axis=1)
