"""Where shapes touch: contact points of polygons and circles, as jax2d finds them, written for whole arrays of pairs.

Vectors are [2, ...], the components first, so that every operation runs along the pairs.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dd.env.scene import Bodies, Matter, Outline, Pairs, Scene

_CLOSE = 0.01  # metres by which the second polygon's axis must be better; keeps contact points from flipping


class Contacts(NamedTuple):
    """Contact points, one or two for a pair of polygons, one for any other pair.

    Attributes:
        normal: from the first shape toward the second, length 1.
        point: where they touch, in world space.
        depth: penetration in metres.
        bounce: the speed along the normal that restitution asks for.
        active: the two shapes touch here.
    """

    normal: Float[Array, "2 n"]
    point: Float[Array, "2 n"]
    depth: Float[Array, "n"]
    bounce: Float[Array, "n"]
    active: Bool[Array, "n"]


def dot(u: Float[Array, "2 ..."], v: Float[Array, "2 ..."]) -> Float[Array, "..."]:
    """Scalar product."""
    return u[0] * v[0] + u[1] * v[1]


def cross(u: Float[Array, "2 ..."], v: Float[Array, "2 ..."]) -> Float[Array, "..."]:
    """Third component of the vector product."""
    return u[0] * v[1] - u[1] * v[0]


def spun(spin: Float[Array, "..."], arm: Float[Array, "2 ..."]) -> Float[Array, "2 ..."]:
    """Velocity at the end of an arm that turns."""
    return jnp.stack([-spin * arm[1], spin * arm[0]])


def turned(angle: Float[Array, "..."], v: Float[Array, "2 ..."]) -> Float[Array, "2 ..."]:
    """Rotate by an angle in radians, counter-clockwise."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([cos * v[0] - sin * v[1], sin * v[0] + cos * v[1]])


def nonzero(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 instead of 0, to divide by."""
    return jnp.where(x == 0, 1.0, x)


def _length(v: Float[Array, "2 ..."]) -> Float[Array, "..."]:
    return jnp.sqrt(dot(v, v))


def find(scene: Scene, bodies: Bodies) -> tuple[Contacts, Contacts, Contacts, Contacts]:
    """The contact points of a state: first and second of two polygons, of circle and polygon, of two circles."""
    rr, cr, cc = scene.pairs
    return (
        *_polygons(scene.outline, scene.matter, bodies, rr),
        _circle_polygon(scene.outline, scene.matter, bodies, cr),
        _circles(scene.matter, bodies, cc),
    )


def _contact(
    matter: Matter, bodies: Bodies, pairs: Pairs, normal: Array, point: Array, depth: Array, active: Array
) -> Contacts:
    def velocity(shape: Int[Array, "n"]) -> Float[Array, "2 n"]:
        return bodies.velocity[:, shape] + spun(bodies.spin[shape], point - bodies.position[:, shape])

    approach = dot(velocity(pairs.b) - velocity(pairs.a), normal)
    bounce = approach * jnp.minimum(matter.restitution[pairs.a], matter.restitution[pairs.b])
    active = active & pairs.touch
    found = (jnp.where(active, each, 0.0) for each in (normal, point, depth, bounce))
    return Contacts(*found, active)


class _Side(NamedTuple):
    """The axis of one polygon along which another is least deep.

    Attributes:
        separation: along that axis; negative where they overlap.
        normal: of the axis.
        face: start and end of the edge it belongs to, each [2, n].
        incident: the other polygon's two vertices that lie deepest, the deepest first.
    """

    separation: Float[Array, "n"]
    normal: Float[Array, "2 n"]
    face: tuple[Float[Array, "2 n"], Float[Array, "2 n"]]
    incident: tuple[Float[Array, "2 n"], Float[Array, "2 n"]]


def _polygons(outline: Outline, matter: Matter, bodies: Bodies, pairs: Pairs) -> tuple[Contacts, Contacts]:
    """Separating axes; then the incident edge, clipped to the ends of the reference edge, gives one or two points."""
    count = outline.corners.shape[0]
    angle, centre = bodies.angle[:count], bodies.position[:, None, :count]
    vertex, following = (turned(angle, each) + centre for each in (outline.vertex, outline.following))
    normal = turned(angle, outline.normal)

    def side(a: Int[Array, "n"], b: Int[Array, "n"]) -> _Side:
        faces = (outline.corners[a], outline.reach[:, a], normal[..., a], vertex[..., a], following[..., a])
        return _least_deep(bodies.position[:, a], faces, vertex[..., b], outline.corners[b])

    first, second = side(pairs.a, pairs.b), side(pairs.b, pairs.a)
    use_second = first.separation + _CLOSE < second.separation

    def chosen(x: Array, y: Array) -> Array:
        return jnp.where(use_second, y, x)

    start, end = (chosen(x, y) for x, y in zip(first.face, second.face, strict=True))
    along = (end - start) / nonzero(_length(end - start))
    # In the reference edge's frame: `inward` is depth below it, `aside` the place along it, clipped to the edge.
    incident = [chosen(x, y) - start for x, y in zip(first.incident, second.incident, strict=True)]
    inward = [-cross(along, each) for each in incident]
    aside = [jnp.clip(dot(along, each), 0, _length(end - start)) for each in incident]
    deeper = inward[1] > inward[0]
    points = []
    for swap in (deeper, ~deeper):
        depth, place = (jnp.where(swap, each[1], each[0]) for each in (inward, aside))
        points.append(start + place * along + depth * jnp.stack([along[1], -along[0]]))
    separation = jnp.maximum(first.separation, second.separation)
    pushed = chosen(first.normal, -second.normal)
    both = jnp.minimum(*inward) > 0
    return (
        _contact(matter, bodies, pairs, pushed, points[0], -separation, separation < 0),
        _contact(matter, bodies, pairs, pushed, points[1], -separation, (separation < 0) & both),
    )


def _least_deep(centre: Array, faces: tuple[Array, ...], vertex: Array, corners: Array) -> _Side:
    own_corners, reach, normal, start, end = faces
    separation = jnp.full(centre.shape[1], -jnp.inf)
    best = (normal[:, 0], start[:, 0], end[:, 0], vertex[0] * 0)
    for i in range(4):
        depths = dot(normal[:, i, None], vertex - centre[:, None])
        # A triangle's unused fourth vertex lies beyond the others.
        depths = depths.at[3].set(jnp.where(corners == 3, depths[:3].max(0) + 1, depths[3]))
        apart = depths.min(0) - reach[i]
        better = (apart > separation) & (i < own_corners)
        separation = jnp.where(better, apart, separation)
        current = (normal[:, i], start[:, i], end[:, i], depths)
        best = tuple(jnp.where(better, new, old) for new, old in zip(current, best, strict=True))
    normal, start, end, depths = best
    deepest = jnp.argmin(depths, axis=0)
    taken = jnp.arange(4)[:, None] == deepest
    next_deepest = jnp.argmin(jnp.where(taken, jnp.inf, depths), axis=0)
    incident = tuple(jnp.take_along_axis(vertex, each[None, None], axis=1)[:, 0] for each in (deepest, next_deepest))
    return _Side(separation, normal, (start, end), incident)


def _circle_polygon(outline: Outline, matter: Matter, bodies: Bodies, pairs: Pairs) -> Contacts:
    """The polygon's boundary point nearest to the circle's centre, in the polygon's frame."""
    polygon, radius = pairs.b, matter.radius[pairs.a - outline.corners.shape[0]]
    angle = bodies.angle[polygon]
    centre = turned(-angle, bodies.position[:, pairs.a] - bodies.position[:, polygon])
    triangle = outline.corners[polygon] == 3
    nearest, point, inside = jnp.full(triangle.shape, jnp.inf), jnp.zeros_like(centre), jnp.ones_like(triangle)
    for i in range(4):
        start, end = outline.vertex[:, i, polygon], outline.following[:, i, polygon]
        length = _length(end - start)
        along = (end - start) / nonzero(length)
        place = start + jnp.clip(dot(along, centre - start), 0, length) * along
        unused = triangle & (i == 3)
        apart = jnp.where(unused, jnp.inf, _length(place - centre))
        inside &= unused | (cross(end - start, centre - start) < 0)
        point = jnp.where(apart < nearest, place, point)
        nearest = jnp.minimum(apart, nearest)
    outward = turned(angle, centre - point) * jnp.where(inside, -1, 1)
    return _contact(
        *(matter, bodies, pairs),
        normal=-outward / nonzero(_length(outward)),
        point=turned(angle, point) + bodies.position[:, polygon],
        depth=jnp.where(inside, radius, radius - nearest),
        active=(nearest <= radius) | inside,
    )


def _circles(matter: Matter, bodies: Bodies, pairs: Pairs) -> Contacts:
    first = bodies.position.shape[1] - matter.radius.shape[0]
    a, b = matter.radius[pairs.a - first], matter.radius[pairs.b - first]
    centre = bodies.position[:, pairs.a]
    between = bodies.position[:, pairs.b] - centre
    distance = _length(between)
    normal = between / nonzero(distance)
    return _contact(matter, bodies, pairs, normal, centre + normal * a, a + b - distance, distance < a + b)
