"""Lengths of the prefixes that training gives: their distribution."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from dd.stage.simulated_delay import kept, lengths

H = 8


def test_an_integer_n_gives_0_to_n_minus_1_short_ones_rather():
    """Weights proportional to exp(n - 1 - i)."""
    p = np.exp(4.0 - np.arange(5))
    assert lengths(5, H) == pytest.approx(p / p.sum())
    assert lengths(2, H) == pytest.approx([np.e / (1 + np.e), 1 / (1 + np.e)])


def test_true_gives_0_to_half_a_chunk_each_alike():
    assert lengths(True, H).tolist() == [0.2] * 5
    assert lengths(True, 7).tolist() == [0.25] * 4


@pytest.mark.parametrize("simulated_delay", [2, 5, 8, True])
def test_prefixes_are_drawn_by_it(simulated_delay):
    """1e5 samples against the probabilities, chi-square, p > 1e-3; a prefix has no holes."""
    n, p = 100_000, lengths(simulated_delay, H)
    drawn = np.asarray(
        jax.jit(functools.partial(kept, simulated_delay=simulated_delay, batch=n, chunk=H))(jax.random.key(1))
    )
    assert (drawn[:, 1:] <= drawn[:, :-1]).all()
    assert stats.chisquare(np.bincount(drawn.sum(1), minlength=len(p)), n * p).pvalue > 1e-3


def test_none_gives_nothing():
    assert not kept(jax.random.key(0), None, 100, H).any()
