"""Kinetix level files: found by name, read into arrays, cut to their active entities."""

import dataclasses
import difflib
import functools
import importlib.util
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from dd import fields
from dd.errors import UserError

WALLS = 4
"""Polygons 0..3 of every level are the floor, the side walls and the ceiling."""

_SHAPE = (
    *("position", "velocity", "rotation", "angular_velocity", "inverse_mass", "inverse_inertia", "density", "friction"),
    *("restitution", "collision_mode", "active", "n_vertices", "vertices", "radius", "role"),
)
_FIELDS = {
    "polygon": _SHAPE,
    "circle": _SHAPE,
    "joint": (
        *("a_index", "b_index", "a_relative_pos", "b_relative_pos", "active", "is_fixed_joint", "rotation"),
        *("motor_on", "motor_speed", "motor_power", "motor_binding"),
        *("motor_has_joint_limits", "min_rotation", "max_rotation"),
        *("global_position", "acc_impulse", "acc_r_impulse"),
    ),
    "thruster": (
        "object_index",
        "relative_position",
        "rotation",
        "power",
        "active",
        "thruster_binding",
        "global_position",
    ),
}
_POINTERS = {"a_index", "b_index", "object_index", "motor_binding", "thruster_binding"}
_BOOLS = {"active", "motor_on", "motor_has_joint_limits", "is_fixed_joint"}
_INTS = {"n_vertices", "collision_mode", "role"} | _POINTERS


class Sizes(NamedTuple):
    """How many entities of each kind a level's arrays hold."""

    polygon: int
    circle: int
    joint: int
    thruster: int


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """A level's entities, field by field: `polygon["position"]` is [polygons, 2], `joint["a_index"]` is [joints].

    Joints and thrusters name shapes by one index, polygons first, then circles.

    Attributes:
        polygon, circle, joint, thruster: entities as stored in the file, those of jax2d plus role, density and binding.
        motor_bindings, thruster_bindings: how many action dimensions of each kind there are.
    """

    polygon: dict[str, np.ndarray]
    circle: dict[str, np.ndarray]
    joint: dict[str, np.ndarray]
    thruster: dict[str, np.ndarray]
    motor_bindings: int
    thruster_bindings: int

    @property
    def sizes(self) -> Sizes:
        """Entities of each kind, inactive ones included."""
        return Sizes(*(len(kind["active"]) for kind in (self.polygon, self.circle, self.joint, self.thruster)))


class Kept(NamedTuple):
    """The entities that a cut keeps, as indices into the uncut arrays, ascending."""

    polygon: np.ndarray
    circle: np.ndarray
    joint: np.ndarray
    thruster: np.ndarray


def packaged() -> pathlib.Path:
    """The folder of kinetix-env's own levels, found without importing kinetix (which takes many seconds)."""
    spec = importlib.util.find_spec("kinetix")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("kinetix-env is not installed, and its levels come with it; install the dependencies.")
    return pathlib.Path(spec.submodule_search_locations[0]) / "levels"


def _names(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Level files of a folder and of its subfolders l, m, s, by name: `l/h17_unicycle`, or `mine` directly inside."""
    files = sorted([*folder.glob("*.json"), *folder.glob("[lms]/*.json")])
    return {str(file.relative_to(folder).with_suffix("")): file for file in files}


def find(level: str, worlds: str | None = None) -> pathlib.Path:
    """The file of a level.

    Args:
        level: `h17_unicycle`, `l/h17_unicycle`, or a path that ends in .json.
        worlds: a folder with level files, searched before kinetix-env's own.

    Raises:
        UserError: no such level, or a short name that stands for several.
    """
    if level.endswith(".json"):
        if (file := pathlib.Path(level).expanduser()).is_file():
            return file
        raise UserError(f"env.level={level}: no such file; give a level file's path, or a name such as l/h17_unicycle.")
    if worlds is not None and not pathlib.Path(worlds).expanduser().is_dir():
        raise UserError(f"env.worlds={worlds}: no such folder; give one that holds level files or subfolders l, m, s.")
    folders = [packaged()] if worlds is None else [pathlib.Path(worlds).expanduser(), packaged()]
    known = [_names(folder) for folder in folders]
    for names in known:
        found = [name for name in names if level in (name, name.split("/")[-1])]
        if level in found or len(found) == 1:
            return names[level if level in found else found[0]]
        if found:
            raise UserError(f"env.level={level} stands for several levels; say which: {' or '.join(found)}.")
    every = {alias: name for names in reversed(known) for name in names for alias in (name.split("/")[-1], name)}
    near = dict.fromkeys(every[alias] for alias in difflib.get_close_matches(level, every, n=4, cutoff=0.5))
    hint = f"did you mean {', '.join(near)}?" if near else "give a name such as l/h17_unicycle or a level file's path."
    raise UserError(f"env.level={level}: no such level; {hint}")


def title(file: pathlib.Path) -> str:
    """`l/h17_unicycle` for kinetix-env's own; three parts, `worlds/l/h17_unicycle`, for others."""
    if file.is_relative_to(own := packaged()):
        return str(file.relative_to(own).with_suffix(""))
    whole = file.resolve().with_suffix("")
    return "/".join(whole.parts[1:][-3:])


def read(file: pathlib.Path) -> Level:
    """Read a level file.

    As in kinetix's own loader (of 3.0.2 and of the version that the published results used), the file's gravity,
    physics
    constants and contact impulses are not taken: an episode starts without contacts, under (0, -9.81).

    Raises:
        UserError: the file is no Kinetix level, or a damaged one.
    """
    return _read(file, fields.file_digest(file))


@functools.lru_cache(maxsize=256)
def _read(file: pathlib.Path, digest: str) -> Level:
    try:
        described = json.loads(file.read_text())
        state, sizes = described["env_state"], described["static_env_params"]
        kinds = {kind: _stack(state[kind], names, sizes[f"num_{kind}s"]) for kind, names in _FIELDS.items()}
        level = Level(
            **kinds, motor_bindings=sizes["num_motor_bindings"], thruster_bindings=sizes["num_thruster_bindings"]
        )
        _check(level)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        reason = f"{type(fault).__name__}: {fault}".splitlines()[0]
        raise UserError(f"{file}: not a readable Kinetix level ({reason}); save it again from the editor.") from fault
    return level


def _stack(entities: list[dict[str, Any]], names: tuple[str, ...], count: int) -> dict[str, np.ndarray]:
    if len(entities) != count:
        raise ValueError(f"{len(entities)} entities where the file says {count}")
    stacked = {name: np.array([_plain(each[name]) for each in entities], _dtype(name)) for name in names}
    if not all(np.isfinite(values).all() for values in stacked.values()):
        raise ValueError("a number that is not finite")
    # Inactive joints and thrusters of kinetix-env's own levels point anywhere.
    pointers = {name: values * stacked["active"] for name, values in stacked.items() if name in _POINTERS}
    return stacked | pointers


def _plain(value: Any) -> Any:
    """Arrays are stored as {"0": first, "1": second, ...}."""
    return [_plain(value[str(i)]) for i in range(len(value))] if isinstance(value, dict) else value


def _dtype(name: str) -> type:
    return np.bool_ if name in _BOOLS else np.int32 if name in _INTS else np.float32


def _check(level: Level) -> None:
    sizes = level.sizes
    ranges = (
        (level.joint, "a_index", sizes.polygon + sizes.circle),
        (level.joint, "b_index", sizes.polygon + sizes.circle),
        (level.thruster, "object_index", sizes.polygon + sizes.circle),
        (level.joint, "motor_binding", level.motor_bindings),
        (level.thruster, "thruster_binding", level.thruster_bindings),
    )
    for kind, name, end in ranges:
        if not ((kind[name] >= 0) & (kind[name] < end)).all():
            raise ValueError(f"{name} outside 0..{end - 1}")
    if sizes.polygon <= WALLS or not level.polygon["active"][:WALLS].all():
        raise ValueError(f"the first {WALLS} polygons must be the floor, walls and ceiling")
    for kind in (level.polygon, level.circle):
        if kind["position"].shape[1:] != (2,) or kind["vertices"].shape[1:] != (4, 2):
            raise ValueError("a position has 2 numbers and a shape 4 vertices")


def whole(level: Level) -> Kept:
    """Keep every entity."""
    return Kept(*(np.arange(size) for size in level.sizes))


def active(level: Level) -> Kept:
    """Keep the active entities, and as many as the engine needs: the walls and a polygon more, two circles."""
    least = {"polygon": WALLS + 1, "circle": 2, "joint": 1, "thruster": 1}
    kept = []
    for kind, count in least.items():
        on = getattr(level, kind)["active"]
        # Active ones first, in order; then inactive ones until there are enough.
        order = np.argsort(~on, kind="stable")
        kept.append(np.sort(order[: max(on.sum(), count)]))
    return Kept(*kept)


def cut(level: Level, kept: Kept) -> Level:
    """The level with the kept entities only; joints and thrusters point at the same shapes as before."""
    moved = _moved(level, kept)
    kinds = {
        kind: {name: values[rows] for name, values in getattr(level, kind).items()}
        for kind, rows in kept._asdict().items()
    }
    for kind, name in (("joint", "a_index"), ("joint", "b_index"), ("thruster", "object_index")):
        kinds[kind][name] = np.maximum(moved[kinds[kind][name]], 0)  # an inactive joint may point at a shape left out
    return dataclasses.replace(level, **kinds)


def _moved(level: Level, kept: Kept) -> np.ndarray:
    """Index in the cut level of each shape of the uncut one; -1 where it is left out."""
    polygons, circles = level.sizes.polygon, level.sizes.circle
    moved = np.full(polygons + circles, -1, np.int32)
    moved[kept.polygon] = np.arange(len(kept.polygon))
    moved[polygons + kept.circle] = len(kept.polygon) + np.arange(len(kept.circle))
    return moved
