"""A Kinetix level as the physics sees it: what never changes, and what a step changes."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
from jax2d.engine import calculate_collision_matrix
from jax2d.sim_state import Joint, RigidBody, StaticSimParams, Thruster
from jaxtyping import Array, Bool, Float, Int

from dd.env.level import Level

GRAVITY = (0.0, -9.81)
"""m/s^2, in every level: kinetix's loader does not take the file's."""


class Scene(NamedTuple):
    """What never changes in a level. Shapes are polygons, then circles, as joints and thrusters name them.

    Attributes:
        shapes: jax2d's description of each shape, as at the start.
        joints: jax2d's joints.
        thrusters: jax2d's thrusters.
        collides: whether two shapes may push each other; those joined to each other may not.
        gravity: in m/s^2.
    """

    shapes: RigidBody
    joints: Joint
    thrusters: Thruster
    collides: Bool[Array, "n n"]
    gravity: Float[Array, "2"]


class Bodies(NamedTuple):
    """Where the n shapes are and how they move, in metres, radians and seconds."""

    position: Float[Array, "n 2"]
    rotation: Float[Array, "n"]
    velocity: Float[Array, "n 2"]
    angular_velocity: Float[Array, "n"]


def scene(level: Level) -> Scene:
    """A level's scene."""
    both = {name: np.concatenate([level.polygon[name], level.circle[name]]) for name in level.polygon}
    shapes, joints, thrusters = (
        kind(**{item.name: values[item.name] for item in dataclasses.fields(kind)})
        for kind, values in ((RigidBody, both), (Joint, level.joint), (Thruster, level.thruster))
    )
    sizes = StaticSimParams(
        num_polygons=level.sizes.polygon, num_circles=level.sizes.circle, num_joints=level.sizes.joint
    )
    collides = calculate_collision_matrix(sizes, joints)
    return Scene(shapes, joints, thrusters, collides, np.array(GRAVITY, np.float32))


def start(scene: Scene) -> Bodies:
    """The shapes at an episode's start."""
    return Bodies(*(getattr(scene.shapes, name) for name in Bodies._fields))


def placed(scene: Scene, bodies: Bodies) -> RigidBody:
    """jax2d's description of the shapes as they are now."""
    return scene.shapes.replace(**bodies._asdict())


def picked(shapes: RigidBody, index: Int[Array | np.ndarray, "c"]) -> RigidBody:
    """The shapes of these numbers."""
    return jax.tree.map(lambda x: x[index], shapes)
