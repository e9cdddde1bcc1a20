"""Contacts are dealt out to the rounds in which jax2d solves them."""

import itertools

import numpy as np
import pytest
from jax2d.engine import get_pairwise_interaction_indices
from jax2d.sim_state import StaticSimParams

from dd.env.level import Kept, Sizes
from dd.env.pairs import pairs, rounds

SIZES = {"s": Sizes(5, 2, 1, 2), "m": Sizes(6, 3, 2, 2), "l": Sizes(12, 4, 6, 2)}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_pairs_are_those_of_jax2d_in_its_order(sizes):
    static = StaticSimParams(num_polygons=sizes.polygon, num_circles=sizes.circle)
    *_, cc, cr, rr = get_pairwise_interaction_indices(static)
    own = pairs(sizes)
    np.testing.assert_array_equal(own.rr, rr)
    np.testing.assert_array_equal(own.cr - [sizes.polygon, 0], cr)
    np.testing.assert_array_equal(own.cc - sizes.polygon, cc)


def dealt_by_jax2d(touches):
    """The rounds of jax2d's resolver: pairs by round, and the rounds in which fillers write to the last pair."""
    size = StaticSimParams().solver_batch_size
    count = -(-len(touches) // size)
    places = np.full(count * size, -1)
    places[: len(touches)] = np.argsort(touches, kind="stable")
    by_round = places.reshape(size, count).T
    return [set(each[each >= 0]) for each in by_round], [bool((each < 0).any()) for each in by_round]


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_what_touches_is_in_the_round_that_jax2d_puts_it_in(sizes):
    rng = np.random.default_rng(0)
    whole = Kept(*(np.arange(size) for size in sizes))
    for dealt, listed in zip(rounds(sizes, whole), pairs(sizes), strict=True):
        for share in (0.05, 0.3, 0.9):
            touches = rng.random(len(listed)) < share
            expected, forgetful = dealt_by_jax2d(touches)
            order = np.cumsum(touches) - 1
            own = (dealt.pairs - touches.sum() + order) % dealt.count
            assert dealt.count == len(expected)
            assert list(dealt.forgetful) == forgetful
            for number, members in enumerate(expected):
                assert {i for i in members if touches[i]} == set(np.flatnonzero(touches & (own == number)))


def test_impulses_are_forgotten_only_where_the_last_pair_is_kept():
    uncut = SIZES["l"]
    whole = [each.forgetful for each in rounds(uncut, Kept(*(np.arange(size) for size in uncut)))]
    assert any(map(any, whole))
    for polygons, circles in itertools.product((range(12), range(11), [*range(10), 11]), (range(4), range(3), [0, 3])):
        kept = Kept(np.array(polygons), np.array(circles), np.arange(1), np.arange(1))
        both = {10, 11} <= set(polygons), 11 in polygons and 3 in circles, {2, 3} <= set(circles)
        for dealt, forgetful, there in zip(rounds(uncut, kept), whole, both, strict=True):
            assert dealt.forgetful == (forgetful if there else (False,) * dealt.count)
