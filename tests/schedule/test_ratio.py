"""Masked fractions run from 1 at the prior to 0 at data."""

import jax.numpy as jnp
import numpy as np
import pytest

from dd.schedule.ratio import Cosine, HalfCosine, Linear, OneMinusCosine

TIMES = jnp.linspace(0, 1, 10_001)


@pytest.mark.parametrize(
    ("ratio", "mean", "quarter", "middle"),
    [
        (Cosine(), 2 / np.pi, np.cos(np.pi / 8), 2**-0.5),
        (Linear(), 0.5, 0.75, 0.5),
        (OneMinusCosine(), 1 - 2 / np.pi, 1 - np.cos(3 * np.pi / 8), 1 - 2**-0.5),
        (HalfCosine(), 0.5, 0.5 + 8**-0.5, 0.5),
    ],
)
def test_ends_mean_and_middle(ratio, mean, quarter, middle):
    """The mean of the cosine is .64: the public code's 1 - cos(pi t / 2) has .36 and would start at 0."""
    gamma = np.asarray(ratio(TIMES), np.float64)
    assert gamma[[0, 2500, 5000, -1]] == pytest.approx([1.0, quarter, middle, 0.0], abs=1e-6)
    assert np.trapezoid(gamma, dx=1e-4) == pytest.approx(mean, abs=1e-4)
    assert (np.diff(gamma[::100]) < 0).all()
