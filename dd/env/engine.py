"""jax2d's physics over a level's own list of pairs."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax2d import engine
from jax2d.sim_state import StaticSimParams
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


def pairs(sizes: Sizes) -> Pairs:
    """All pairs, in jax2d's order."""
    polygons, circles = range(sizes.polygon), range(sizes.circle)
    rr = [(a, b) for a in polygons for b in polygons if a < b and b >= WALLS]
    cr = [(a, b) for a in circles for b in polygons]
    cc = [(a, b) for a in circles for b in circles if a < b]
    return Pairs(*(np.array(each, np.int32).reshape(-1, 2) for each in (rr, cr, cc)))


class Engine(engine.PhysicsEngine):
    """jax2d's engine, without the seconds that its constructor spends on listing pairs."""

    def __init__(self, sizes: Sizes, pairs: Pairs):
        static = StaticSimParams(
            num_polygons=sizes.polygon, num_circles=sizes.circle, num_joints=sizes.joint, num_thrusters=sizes.thruster
        )
        self.static_sim_params = static
        self.poly_poly_pairs, self.circle_poly_pairs, self.circle_circle_pairs = (jnp.asarray(each) for each in pairs)
        batch = static.solver_batch_size

        def resolver(first_poly: bool, second_poly: bool, listed: Array):
            rounds = -(-len(listed) // batch)
            return engine.make_impulse_resolver_fn(
                static, first_poly, second_poly, len(listed), rounds, batch, rounds * batch, listed
            )

        def warm(first_poly: bool, second_poly: bool, listed: Array):
            return engine.make_impulse_warm_starting_fn(static, first_poly, second_poly, len(listed), listed)

        self.rr_fn, self.ws_rr_fn = (make(True, True, self.poly_poly_pairs) for make in (resolver, warm))
        self.cr_fn, self.ws_cr_fn = (make(False, True, self.circle_poly_pairs) for make in (resolver, warm))
        self.cc_fn, self.ws_cc_fn = (make(False, False, self.circle_circle_pairs) for make in (resolver, warm))
        self.j_fn = engine.make_joint_resolver_fn(static.num_joints, static)
        self.ws_j_fn = engine.make_joint_warm_starting_fn(static, static.num_joints)
