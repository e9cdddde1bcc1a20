"""The jobs of a sweep: Hydra's own product, and axes that advance together."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from dd.errors import UserError
from launch.grid import jobs

SWEEP = ["a=1,2", "b.c=x,y,z", "d=7", "+e=[1,2],[3]", "a=5,6"]


def parsed(*overrides):
    return OverridesParser.create().parse_overrides(list(overrides))


def test_without_such_axes_the_jobs_are_hydras():
    (expected,) = BasicSweeper.split_arguments(parsed(*SWEEP), None)
    assert jobs(parsed(*SWEEP), []) == expected
    assert len(expected) == 2 * 3 * 2


def test_axes_that_advance_together_are_one_axis_equal_values_included():
    found = jobs(parsed("seed=0,1", "d=0,1,2", "n=5,3,3"), [["d", "n"]])
    assert found == [[f"seed={s}", f"d={d}", f"n={n}"] for s in (0, 1) for d, n in ((0, 5), (1, 3), (2, 3))]


def test_the_order_in_which_they_are_named_does_not_matter():
    given = parsed("n=5,3", "x=a,b", "d=0,1")
    assert jobs(given, [["d", "n"]]) == jobs(given, [["n", "d"]])
    assert jobs(given, [["d", "n"]])[1] == ["n=5", "x=b", "d=0"]


def test_three_axes_and_two_groups():
    given = parsed("a=1,2", "b=3,4", "c=5,6", "d=7,8,9", "e=0,1,2")
    assert len(jobs(given, [["a", "b", "c"], ["d", "e"]])) == 2 * 3


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["a=1,2", "b=1,2,3"], ["a has 2, b has 3", "equally many"]),
        (["a=1,2"], ["b is not swept here", "hydra.sweeper.zip=[]"]),
    ],
)
def test_axes_that_can_not_are_refused(overrides, words):
    with pytest.raises(UserError) as refusal:
        jobs(parsed(*overrides), [["a", "b"]])
    assert all(word in str(refusal.value) for word in words)
