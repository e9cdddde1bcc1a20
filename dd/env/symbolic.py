"""The benchmark's symbolic-flat observation: where each number of a level stands in it, and which of them move."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dd.env.level import WALLS, Kept, Level, whole
from dd.env.scene import Bodies

MOVING = 7
"""Numbers of a shape that change as it moves: position (2), velocity (2), tanh(angular velocity / 10), sin, cos."""

_COLUMNS = (0, 1, 2, 3, 7, 12, 13)  # where these stand among a shape's features
_POLYGON, _CIRCLE, _ROLES = 26, 18, 4


class Observation(NamedTuple):
    """An observation in the full layout of a level's own, uncut sizes (679 numbers for the large set).

    Attributes:
        still: the observation at the start; what never changes is taken from it.
        source: index into the kept shapes' moving numbers, [polygons + circles, MOVING] flattened; -1 for what is
            still.
    """

    still: Float[Array, "o"] | Float[np.ndarray, "o"]
    source: Int[Array, "o"] | Int[np.ndarray, "o"]


def width(level: Level) -> int:
    """How many numbers an observation of this level has."""
    return observation(level, whole(level), 0.0).still.size


def render(observation: Observation, bodies: Bodies) -> Float[Array, "o"]:
    """The observation of the shapes as they are now."""
    turning = [jnp.tanh(bodies.angular_velocity / 10), jnp.sin(bodies.rotation), jnp.cos(bodies.rotation)]
    moving = jnp.column_stack([bodies.position, bodies.velocity, *turning])
    numbers = jnp.nan_to_num(jnp.clip(moving.ravel(), -10, 10))
    return jnp.where(observation.source < 0, observation.still, numbers[observation.source])


def observation(level: Level, kept: Kept, gravity: float) -> Observation:
    """The layout of kinetix's `make_render_symbolic`: polygons (not walls, ceiling), circles, joints, thrusters,
    gravity.

    Args:
        level: uncut.
        kept: the entities whose state is simulated.
        gravity: vertical, in m/s^2.
    """
    shown = np.array([0, *range(WALLS, level.sizes.polygon)])
    parts = [_polygons(level.polygon)[shown], _circles(level.circle), _joints(level), _thrusters(level)]
    still = np.concatenate([*(part.ravel() for part in parts), [gravity / 10]])
    source = np.full(still.shape, -1, np.int32)
    for slot, index in enumerate(kept.polygon):
        if index in shown and level.polygon["active"][index]:
            _point(source, int(np.searchsorted(shown, index)) * _POLYGON, slot)
    for slot, index in enumerate(kept.circle):
        if level.circle["active"][index]:
            _point(source, len(shown) * _POLYGON + int(index) * _CIRCLE, len(kept.polygon) + slot)
    return Observation(np.nan_to_num(np.clip(still, -10, 10)).astype(np.float32), source)


def _point(source: np.ndarray, start: int, slot: int) -> None:
    source[start + np.array(_COLUMNS)] = slot * MOVING + np.arange(MOVING)


def _columns(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([part if part.ndim == 2 else part[:, None] for part in parts], axis=1, dtype=np.float32)


def _one_hot(index: np.ndarray, count: int) -> np.ndarray:
    return index[:, None] == np.arange(count)


def _shapes(shape: dict[str, np.ndarray]) -> np.ndarray:
    spin, turn = shape["angular_velocity"], shape["rotation"]
    mass = (shape["inverse_mass"], shape["inverse_inertia"], shape["density"])
    surface = (np.sin(turn), np.cos(turn), shape["friction"], shape["restitution"])
    return _columns(
        shape["position"], shape["velocity"], *mass, np.tanh(spin / 10), _one_hot(shape["role"], _ROLES), *surface
    )


def _polygons(polygon: dict[str, np.ndarray]) -> np.ndarray:
    corners = polygon["n_vertices"]
    vertices = np.where(np.arange(4)[None, :, None] < corners[:, None, None], polygon["vertices"], -1.0)
    rows = _columns(_shapes(polygon), np.zeros(len(corners)), vertices.reshape(len(corners), -1), corners <= 3)
    return rows * polygon["active"][:, None]


def _circles(circle: dict[str, np.ndarray]) -> np.ndarray:
    radius = circle["radius"]
    return _columns(_shapes(circle), radius, np.ones(len(radius))) * circle["active"][:, None]


def _joints(level: Level) -> np.ndarray:
    joint, shapes = level.joint, level.sizes.polygon + level.sizes.circle
    turn, low, high = joint["rotation"], joint["min_rotation"], joint["max_rotation"]
    limits = joint["motor_has_joint_limits"].astype(np.float32)
    bounds = [part * limits for part in (np.sin(low), np.cos(low), np.sin(high), np.cos(high), low - turn, high - turn)]
    motor = _columns(
        *(joint["motor_speed"], joint["motor_power"], joint["motor_on"], limits),
        *(_one_hot(joint["motor_binding"], level.motor_bindings), *bounds),
    )
    rows = _columns(
        *(joint["active"], joint["is_fixed_joint"], joint["b_relative_pos"], joint["a_relative_pos"]),
        *(np.sin(turn), np.cos(turn), motor * ~joint["is_fixed_joint"][:, None]),
        *(_one_hot(joint["b_index"], shapes), _one_hot(joint["a_index"], shapes)),
    )
    return rows * joint["active"][:, None]


def _thrusters(level: Level) -> np.ndarray:
    thruster, shapes = level.thruster, level.sizes.polygon + level.sizes.circle
    turn = thruster["rotation"]
    rows = _columns(
        *(thruster["active"], thruster["relative_position"]),
        *(_one_hot(thruster["thruster_binding"], level.thruster_bindings), np.sin(turn), np.cos(turn)),
        *(thruster["power"], _one_hot(thruster["object_index"], shapes)),
    )
    return rows * thruster["active"][:, None]
