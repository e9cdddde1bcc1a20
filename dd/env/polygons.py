"""Where two polygons touch: jax2d's separating axes and clipping, for many worlds (`worlds`).

Every polygon has four vertices, the fourth of a triangle being ignored. jax2d picks faces and vertices by index; here
all are computed and the right ones kept by a 0/1 mask. A box that lies flat has two deepest vertices, and rounding
alone tells which is the first: the arithmetic is jax2d's, step by step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax2d.maths import zero_to_one
from jax2d.sim_state import CollisionManifold, RigidBody
from jaxtyping import Array, Bool, Float, Int

from dd.env.scene import Bodies, Scene, picked, placed
from dd.env.vectors import dot, swept, turned

_PREFERENCE = 0.01  # metres by which the second shape's face must separate more to be the reference
_FAR = 99999.0


class Side(NamedTuple):
    """One shape of each of c pairs.

    Attributes:
        shape: jax2d's description.
        cos, sin: of its rotation.
        vertices: in the world.
        normals: of the faces, as in `shape`; face i is between vertices i and i + 1.
        extent: how far the shape reaches along each of its normals, from its centre.
    """

    shape: RigidBody
    cos: Float[Array, "c w"]
    sin: Float[Array, "c w"]
    vertices: Float[Array, "c 4 2 w"]
    normals: Float[Array, "c 4 2 v"]
    extent: Float[Array, "c 4 v"]


class Face(NamedTuple):
    """The face of a pair's one shape that separates it most from the other, the reference.

    Attributes:
        separation: along the face's normal, negative where the shapes overlap.
        ends: the face's vertices.
        normal: of the face.
        incident: the other shape's two vertices that reach deepest.
    """

    separation: Float[Array, "c w"]
    ends: tuple[Float[Array, "c 2 w"], Float[Array, "c 2 w"]]
    normal: Float[Array, "c 2 w"]
    incident: tuple[Float[Array, "c 2 w"], Float[Array, "c 2 w"]]


def touch(
    pairs: Int[np.ndarray, "c 2"], scene: Scene, bodies: Bodies, impulses: Float[Array, "2 2 c w"]
) -> CollisionManifold:
    """jax2d's manifolds, [2 points, c pairs, ..., w worlds].

    Args:
        pairs: of polygons.
        scene: the level.
        bodies: its shapes.
        impulses: of the step before; kept where the pair still touches.
    """
    shapes = placed(scene, bodies)
    first, second = (_side(picked(shapes, each)) for each in pairs.T)
    of_first, of_second = _face(first, second), _face(second, first)
    flipped = of_first.separation + _PREFERENCE < of_second.separation
    ends, incident = (
        jax.tree.map(lambda a, b: jnp.where(flipped[:, None], b, a), getattr(of_first, name), getattr(of_second, name))
        for name in ("ends", "incident")
    )
    normal = jnp.where(flipped[:, None], -of_second.normal, of_first.normal)
    separation = jnp.maximum(of_first.separation, of_second.separation)
    a, b = first.shape, second.shape
    mode = (a.collision_mode == 2) | (b.collision_mode == 2) | (a.collision_mode * b.collision_mode > 0)
    touching = (separation < 0) & a.active & b.active & mode
    deeper, other, both = _clipped(ends, incident)

    def manifold(
        point: Float[Array, "c 2 w"], active: Bool[Array, "c w"], held: Float[Array, "2 c w"]
    ) -> CollisionManifold:
        met = dot(_velocity(b, point) - _velocity(a, point), normal)
        found = CollisionManifold(
            normal=normal,
            penetration=-separation,
            collision_point=point,
            active=active,
            acc_impulse_normal=held[0],
            acc_impulse_tangent=held[1],
            restitution_velocity_target=met * jnp.minimum(a.restitution, b.restitution),
        )
        return jax.tree.map(
            lambda x: jnp.where(active if x.ndim == 2 else active[:, None], x, jnp.zeros_like(x)), found
        )

    points = manifold(deeper, touching, impulses[0]), manifold(other, touching & both, impulses[1])
    return jax.tree.map(lambda *each: jnp.stack(each), *points)


def _side(shape: RigidBody) -> Side:
    own = shape.vertices
    triangle = (shape.n_vertices == 3)[:, None]
    quarter = jnp.full((1, 1, 1), jnp.pi / 2)
    after = jnp.roll(own, -1, axis=1)
    after = after.at[:, 2].set(jnp.where(triangle, own[:, 0], own[:, 3]))
    along = after - own
    length = zero_to_one(jnp.sqrt(dot(along, along)))
    normals = turned(along, jnp.cos(quarter), jnp.sin(quarter)) / length[:, :, None]
    reach = dot(normals[:, :, None], own[:, None])
    reach = reach.at[:, :, 3].set(jnp.where(triangle, reach[:, :, :3].min(axis=2) - 1, reach[:, :, 3]))
    cos, sin = jnp.cos(shape.rotation), jnp.sin(shape.rotation)
    world = turned(own, cos[:, None], sin[:, None]) + shape.position[:, None]
    return Side(shape, cos, sin, world, normals, reach.max(axis=2))


def _face(side: Side, other: Side) -> Face:
    away = turned(other.vertices - side.shape.position[:, None], side.cos[:, None], -side.sin[:, None])
    depth = dot(side.normals[:, :, None], away[:, None])  # [c, faces, the other's vertices, w]
    triangle = (other.shape.n_vertices == 3)[:, None]
    depth = depth.at[:, :, 3].set(jnp.where(triangle, depth[:, :, :3].max(axis=2) + 1, depth[:, :, 3]))
    separation = depth.min(axis=2) - side.extent
    faces = jnp.arange(4)[:, None]
    separation = jnp.where(faces < side.shape.n_vertices[:, None], separation, -_FAR)
    best = faces == separation.argmax(axis=1)[:, None]
    following = faces == ((separation.argmax(axis=1) + 1) % side.shape.n_vertices)[:, None]
    along = _chosen(best, depth)
    nearest = faces == along.argmin(axis=1)[:, None]
    second = faces == jnp.where(nearest, jnp.inf, along).argmin(axis=1)[:, None]
    return Face(
        separation=separation.max(axis=1),
        ends=(_chosen(best, side.vertices), _chosen(following, side.vertices)),
        normal=turned(_chosen(best, side.normals), side.cos, side.sin),
        incident=(_chosen(nearest, other.vertices), _chosen(second, other.vertices)),
    )


def _clipped(
    ends: tuple[Float[Array, "c 2 w"], Float[Array, "c 2 w"]],
    incident: tuple[Float[Array, "c 2 w"], Float[Array, "c 2 w"]],
) -> tuple[Float[Array, "c 2 w"], Float[Array, "c 2 w"], Bool[Array, "c w"]]:
    """The incident vertices moved to within the reference face's ends, the deeper first; whether both are inside."""
    start, end = ends
    face = start - end
    length = jnp.sqrt(dot(face, face))
    angle = jnp.pi + jnp.arctan2(face[:, 0], face[:, 1])
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    own = [turned(each - start, cos, sin) for each in incident]
    depths = [each[:, 0] for each in own]
    held = [jnp.stack([each[:, 0], jnp.clip(each[:, 1], 0, length)], axis=1) for each in own]
    places = [turned(each, cos, -sin) + start for each in held]
    swap = (depths[1] > depths[0])[:, None]
    deeper, other = jnp.where(swap, places[1], places[0]), jnp.where(swap, places[0], places[1])
    return deeper, other, jnp.minimum(*depths) > 0


def _velocity(shape: RigidBody, point: Float[Array, "c 2 #w"]) -> Float[Array, "c 2 w"]:
    return shape.velocity + swept(shape.angular_velocity, point - shape.position)


def _chosen(mask: Bool[Array, "c 4 #w"], values: Float[Array, "c 4 ... #w"]) -> Float[Array, "c ... w"]:
    mask = mask if values.ndim == mask.ndim else mask[:, :, None]
    return sum(jnp.where(mask[:, i], values[:, i], 0.0) for i in range(4))
