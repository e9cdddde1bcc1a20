"""Prefix weights: the four schedules by hand, and what they share."""

import jax.numpy as jnp
import numpy as np
import pytest

from dd.decode.weights import Exp, Linear, Ones, Zeros

H = 8
PAIRS = [(d, s) for d in range(5) for s in range(max(1, d), H - d + 1)]


def weights(schedule, d, s):
    return np.asarray(schedule(jnp.int32(d), jnp.int32(H - s), H))


@pytest.mark.parametrize(
    ("schedule", "between"),
    [
        (Exp(), lambda c: c * np.expm1(c) / np.expm1(1)),
        (Linear(), lambda c: c),
        (Ones(), lambda c: 1 + 0 * c),
        (Zeros(), lambda c: 0 * c),
    ],
)
def test_between_start_and_end_they_are_the_schedules(schedule, between):
    """d = 2, s = 2: end = 6, c = 4/5, 3/5, 2/5, 1/5 at entries 2..5."""
    c = np.array([0.8, 0.6, 0.4, 0.2])
    assert weights(schedule, 2, 2) == pytest.approx([1, 1, *between(c), 0, 0], abs=1e-6)


@pytest.mark.parametrize("schedule", [Exp(), Linear(), Ones(), Zeros()])
@pytest.mark.parametrize(("d", "s"), PAIRS)
def test_what_is_committed_counts_1_and_what_is_empty_0(schedule, d, s):
    found = weights(schedule, d, s)
    assert (found[:d] == 1).all()
    assert (found[H - s :] == 0).all()
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("d", range(5))
def test_without_overlap_all_schedules_are_one(d):
    for schedule in (Linear(), Ones(), Zeros()):
        assert (weights(schedule, d, H - d) == weights(Exp(), d, H - d)).all()
