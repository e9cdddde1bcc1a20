"""What does not change while a Kinetix level is played, as arrays ordered for the physics."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dd.env.level import WALLS, Kept, Level, Sizes

Number = Array | np.ndarray


class Bodies(NamedTuple):
    """How the shapes are placed and move: polygons first, then circles. SI units."""

    position: Float[Number, "2 s"]
    velocity: Float[Number, "2 s"]
    angle: Float[Number, "s"]
    spin: Float[Number, "s"]


class Matter(NamedTuple):
    """What the shapes are made of; the inverse of an immovable shape's mass is 0."""

    inverse_mass: Float[Number, "s"]
    inverse_inertia: Float[Number, "s"]
    friction: Float[Number, "s"]
    restitution: Float[Number, "s"]
    radius: Float[Number, "c"]


class Outline(NamedTuple):
    """Polygons in their own frame, clockwise.

    Attributes:
        corners: number of vertices, 3 or 4.
        vertex: start of each edge; for a triangle only the first three count.
        following: end of each edge.
        normal: of each edge, outward, of length 1.
        reach: the polygon's extent along each normal.
    """

    corners: Int[Number, "p"]
    vertex: Float[Number, "2 4 p"]
    following: Float[Number, "2 4 p"]
    normal: Float[Number, "2 4 p"]
    reach: Float[Number, "4 p"]


class Pairs(NamedTuple):
    """Pairs of shapes of one kind, in jax2d's order.

    Attributes:
        a, b: the two shapes.
        touch: they can be in contact.
        resolve: a contact pushes them apart; it does not where they are jointed, or both immovable.
        remember: the solver goes on from the impulse of the step before.
        goal: a contact solves the level, and their distance is the one that counts.
        loss: a contact loses it.
    """

    a: Int[Number, "n"]
    b: Int[Number, "n"]
    touch: Bool[Number, "n"]
    resolve: Bool[Number, "n"]
    remember: Bool[Number, "n"]
    goal: Bool[Number, "n"]
    loss: Bool[Number, "n"]


class Joints(NamedTuple):
    """Joints of two shapes, with the motors in them; `limits` bounds b's rotation against a's by low and high (radians)."""

    a: Int[Number, "j"]
    b: Int[Number, "j"]
    a_anchor: Float[Number, "2 j"]
    b_anchor: Float[Number, "2 j"]
    on: Bool[Number, "j"]
    fixed: Bool[Number, "j"]
    limits: Bool[Number, "j"]
    low: Float[Number, "j"]
    high: Float[Number, "j"]
    rotation: Float[Number, "j"]
    motor: Bool[Number, "j"]
    speed: Float[Number, "j"]
    power: Float[Number, "j"]
    action: Int[Number, "j"]


class Thrusters(NamedTuple):
    """Thrusters on shapes; power is 0 for an inactive one."""

    shape: Int[Number, "t"]
    place: Float[Number, "2 t"]
    rotation: Float[Number, "t"]
    power: Float[Number, "t"]
    action: Int[Number, "t"]


class Scene(NamedTuple):
    """A level for the physics."""

    start: Bodies
    matter: Matter
    outline: Outline
    pairs: tuple[Pairs, Pairs, Pairs]  # two polygons, a circle and a polygon, two circles
    joints: Joints
    thrusters: Thrusters


def pair_indices(sizes: Sizes) -> list[np.ndarray]:
    """All pairs of two polygons (but not of two walls), of a circle and a polygon, and of two circles; each [n, 2]."""
    polygons, circles = range(sizes.polygon), range(sizes.polygon, sizes.polygon + sizes.circle)
    rr = [(a, b) for a in polygons for b in polygons if a < b and b >= WALLS]
    cr = [(a, b) for a in circles for b in polygons]
    cc = [(a, b) for a in circles for b in circles if a < b]
    return [np.array(each, np.int32).reshape(-1, 2) for each in (rr, cr, cc)]


def scene(level: Level, forgetful: tuple[tuple[int, int] | None, ...]) -> Scene:
    """Arrange a level.

    Args:
        level: cut to the entities to simulate.
        forgetful: per kind of pair, the one whose impulses the solver never remembers, if it is there.
    """
    both = {name: np.concatenate([level.polygon[name], level.circle[name]]) for name in level.polygon}
    apart = _apart(level, len(both["active"]))
    still = both["inverse_mass"] == 0
    role = both["role"] * both["active"]
    mode = both["collision_mode"]

    def pairs(listed: np.ndarray, never: tuple[int, int] | None) -> Pairs:
        a, b = listed.T
        meet = (mode[a] == 2) | (mode[b] == 2) | (mode[a] * mode[b] > 0)
        return Pairs(
            a=a,
            b=b,
            touch=both["active"][a] & both["active"][b] & meet,
            resolve=~(still[a] & still[b]) & apart[a, b],
            remember=np.array([tuple(each) != never for each in listed], bool),
            goal=role[a] * role[b] == 2,
            loss=role[a] * role[b] == 3,
        )

    joint, thruster = level.joint, level.thruster
    a, b = joint["a_index"], joint["b_index"]
    return Scene(
        start=Bodies(both["position"].T, both["velocity"].T, both["rotation"], both["angular_velocity"]),
        matter=Matter(
            *(both[name] for name in ("inverse_mass", "inverse_inertia", "friction", "restitution")),
            radius=level.circle["radius"],
        ),
        outline=_outline(level.polygon),
        pairs=tuple(map(pairs, pair_indices(level.sizes), forgetful)),
        joints=Joints(
            *(a, b, joint["a_relative_pos"].T, joint["b_relative_pos"].T),
            on=joint["active"] & ~(still[a] & still[b]) & both["active"][a] & both["active"][b],
            fixed=joint["is_fixed_joint"],
            limits=joint["motor_has_joint_limits"],
            low=joint["min_rotation"],
            high=joint["max_rotation"],
            rotation=joint["rotation"],
            motor=joint["motor_on"],
            speed=joint["motor_speed"],
            power=joint["motor_power"],
            action=joint["motor_binding"],
        ),
        thrusters=Thrusters(
            *(thruster["object_index"], thruster["relative_position"].T, thruster["rotation"]),
            power=thruster["power"] * thruster["active"],
            action=level.motor_bindings + thruster["thruster_binding"],
        ),
    )


def _outline(polygon: dict[str, np.ndarray]) -> Outline:
    vertices, corners = polygon["vertices"], polygon["n_vertices"]
    rows = np.arange(len(corners))
    following = np.roll(vertices, -1, axis=1)
    following[rows, corners - 1] = vertices[:, 0]
    along = following - vertices
    length = np.linalg.norm(along, axis=2)
    normal = np.stack([-along[..., 1], along[..., 0]], 2) / np.where(length == 0, 1, length)[..., None]
    extent = np.einsum("pik,pjk->pij", normal, vertices)
    extent[corners == 3, :, 3] = -np.inf
    return Outline(corners, *(np.transpose(each, (2, 1, 0)) for each in (vertices, following, normal)), extent.max(2).T)


def _apart(level: Level, shapes: int) -> np.ndarray:
    """Which shapes collide, [s, s]: not a shape with itself, nor those that a chain of joints connects.

    As in jax2d: jointed shapes collide with what both of them collide with, applied until it has spread along any chain.
    """
    apart = ~np.eye(shapes, dtype=bool)
    joint = level.joint
    jointed = list(zip(joint["a_index"][joint["active"]], joint["b_index"][joint["active"]], strict=True))
    for a, b in jointed * len(joint["active"]):
        shared = apart[a] & apart[b]
        apart[[a, b]] = shared
        apart[:, [a, b]] = shared[:, None]
    return apart
