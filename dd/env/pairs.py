"""The pairs of shapes that may touch, and the order in which jax2d solves their contacts."""

import functools
from typing import NamedTuple

import numpy as np
from jax2d.sim_state import StaticSimParams
from jaxtyping import Int

from dd.env.level import WALLS, Kept, Sizes

_BATCH = StaticSimParams().solver_batch_size


class Pairs(NamedTuple):
    """Pairs of shapes by kind; a shape's index counts polygons, then circles.

    Attributes:
        rr: two polygons, except two of the walls.
        cr: a circle and a polygon.
        cc: two circles.
    """

    rr: Int[np.ndarray, "rr 2"]
    cr: Int[np.ndarray, "cr 2"]
    cc: Int[np.ndarray, "cc 2"]


@functools.cache
def pairs(sizes: Sizes) -> Pairs:
    """All pairs, in jax2d's order."""
    polygons, circles = range(sizes.polygon), range(sizes.polygon, sizes.polygon + sizes.circle)
    rr = [(a, b) for a in polygons for b in polygons if a < b and b >= WALLS]
    cr = [(a, b) for a in circles for b in polygons]
    cc = [(a, b) for a in circles for b in circles if a < b]
    return Pairs(*(np.array(each, np.int32).reshape(-1, 2) for each in (rr, cr, cc)))


class Rounds(NamedTuple):
    """How jax2d deals out one kind's contacts in an uncut level.

    The contacts of a round are solved at once, the rounds one after the other. Of `pairs` pairs, k of which touch, the
    i-th that touches is in round (pairs - k + i) mod `count`.

    Attributes:
        pairs: in the uncut level.
        count: how many rounds there are.
        forgetful: rounds in which the last pair's accumulated impulse is cleared: where the pairs do not fill a round
            up, jax2d's fillers write at the place of the uncut level's last pair. None, where that pair is not kept.
    """

    pairs: int
    count: int
    forgetful: tuple[bool, ...]


def rounds(uncut: Sizes, kept: Kept) -> tuple[Rounds, Rounds, Rounds]:
    """Of rr, cr and cc, where these entities of a level are kept."""

    def ends(kind: str) -> tuple[bool, bool]:
        size, there = getattr(uncut, kind), getattr(kept, kind)
        return bool(np.isin(size - 2, there)), bool(np.isin(size - 1, there))

    (polygon_before, polygon), (circle_before, circle) = ends("polygon"), ends("circle")
    last = (polygon_before and polygon, circle and polygon, circle_before and circle)
    return tuple(_dealt(len(each), there) for each, there in zip(pairs(uncut), last, strict=True))


def _dealt(count: int, last: bool) -> Rounds:
    dealt = max(1, -(-count // _BATCH))
    fillers = dealt * _BATCH - count
    return Rounds(count, dealt, tuple(last and (r - count) % dealt < fillers for r in range(dealt)))
