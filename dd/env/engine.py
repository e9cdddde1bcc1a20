"""jax2d's physics over a level's own list of pairs."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax2d import engine
from jax2d.sim_state import CollisionManifold, SimState, StaticSimParams
from jaxtyping import Array, Int

from dd.env.level import WALLS, Sizes


class Pairs(NamedTuple):
    """The pairs of shapes whose contacts are computed, as indices among polygons and among circles.

    Attributes:
        rr: two polygons, except two of the walls.
        cr: a circle and a polygon.
        cc: two circles.
    """

    rr: Int[Array, "rr 2"]
    cr: Int[Array, "cr 2"]
    cc: Int[Array, "cc 2"]


def pairs(sizes: Sizes, uncut: Sizes) -> Pairs:
    """All pairs in jax2d's order, behind as many idle ones as `Engine` asks for."""
    polygons, circles = range(sizes.polygon), range(sizes.circle)
    rr = [(a, b) for a in polygons for b in polygons if a < b and b >= WALLS]
    cr = [(a, b) for a in circles for b in polygons]
    cc = [(a, b) for a in circles for b in circles if a < b]
    idle = [[(0, 1)] * count for count in _idle(sizes, uncut)]
    return Pairs(*(np.array(i + each, np.int32).reshape(-1, 2) for i, each in zip(idle, (rr, cr, cc), strict=True)))


def no_contacts(listed: Pairs) -> tuple[CollisionManifold, ...]:
    """The contacts of these pairs before the first step: two points for a pair of polygons, else one."""
    points = ((len(listed.rr), 2), (len(listed.cr),), (len(listed.cc),))
    return tuple(
        CollisionManifold(
            normal=jnp.zeros((*shape, 2)),
            penetration=jnp.zeros(shape),
            collision_point=jnp.zeros((*shape, 2)),
            active=jnp.zeros(shape, bool),
            acc_impulse_normal=jnp.zeros(shape),
            acc_impulse_tangent=jnp.zeros(shape),
            restitution_velocity_target=jnp.zeros(shape),
        )
        for shape in points
    )


def counts(sizes: Sizes) -> tuple[int, int, int]:
    """How many pairs of each kind there are, idle ones aside."""
    walls = WALLS * (WALLS - 1) // 2
    polygons, circles = sizes.polygon, sizes.circle
    return polygons * (polygons - 1) // 2 - walls, circles * polygons, circles * (circles - 1) // 2


def _rounds(uncut: Sizes) -> tuple[int, ...]:
    return tuple(max(1, -(-count // _BATCH)) for count in counts(uncut))


def _idle(sizes: Sizes, uncut: Sizes) -> tuple[int, ...]:
    pairs = zip(counts(sizes), counts(uncut), _rounds(uncut), strict=True)
    return tuple((many - few) % rounds for few, many, rounds in pairs)


class Engine(engine.PhysicsEngine):
    """jax2d's engine on a cut level, with the contacts in the rounds of the uncut one.

    jax2d deals the active contacts out to rounds by their place in the list, counted from its end: contacts of one
    round are solved at once, the rounds one after the other. As many rounds, and idle pairs ahead of the list until
    its length agrees with the uncut one's modulo the rounds, put every contact into the round that it has uncut.
    """

    def __init__(self, sizes: Sizes, uncut: Sizes, pairs: Pairs):
        static = static_params(sizes)
        self.static_sim_params = static
        self.poly_poly_pairs, self.circle_poly_pairs, self.circle_circle_pairs = (jnp.asarray(each) for each in pairs)
        self._idle_pairs = _idle(sizes, uncut)

        def resolver(first_poly: bool, second_poly: bool, listed: Array, rounds: int):
            batch = -(-len(listed) // rounds)
            return engine.make_impulse_resolver_fn(
                static, first_poly, second_poly, len(listed), rounds, batch, rounds * batch, listed
            )

        def warm(first_poly: bool, second_poly: bool, listed: Array):
            return engine.make_impulse_warm_starting_fn(static, first_poly, second_poly, len(listed), listed)

        rr, cr, cc = _rounds(uncut)
        self.rr_fn, self.ws_rr_fn = resolver(True, True, pairs.rr, rr), warm(True, True, pairs.rr)
        self.cr_fn, self.ws_cr_fn = resolver(False, True, pairs.cr, cr), warm(False, True, pairs.cr)
        self.cc_fn, self.ws_cc_fn = resolver(False, False, pairs.cc, cc), warm(False, False, pairs.cc)
        self.j_fn = engine.make_joint_resolver_fn(static.num_joints, static)
        self.ws_j_fn = engine.make_joint_warm_starting_fn(static, static.num_joints)

    def calculate_collision_manifolds(self, state: SimState) -> tuple[CollisionManifold, ...]:
        """As jax2d does; idle pairs never touch."""
        found = super().calculate_collision_manifolds(state)
        return tuple(
            each.replace(active=each.active.at[:idle].set(False))
            for each, idle in zip(found, self._idle_pairs, strict=True)
        )


def static_params(sizes: Sizes) -> StaticSimParams:
    """jax2d's description of these sizes."""
    return StaticSimParams(
        num_polygons=sizes.polygon, num_circles=sizes.circle, num_joints=sizes.joint, num_thrusters=sizes.thruster
    )


_BATCH = StaticSimParams().solver_batch_size
