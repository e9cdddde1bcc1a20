"""Ranks by comparison and by sorting; draws by the inverse distribution function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dd.schedule.choice import draw, rank


@pytest.mark.parametrize("entries", [1, 12, 128, 129, 700])
def test_ranks_are_places_in_stable_order_however_many_entries(entries):
    """Ties, which keep their order, and infinities included; short and long chunks are ranked in different ways."""
    values = np.random.default_rng(entries).integers(0, max(2, entries // 3), (3, entries)).astype(np.float32)
    values[:, ::5] = np.inf
    expected = np.argsort(np.argsort(values, axis=-1, kind="stable"), axis=-1, kind="stable")
    np.testing.assert_array_equal(rank(jnp.asarray(values)), expected)


def test_at_temperature_0_the_largest_is_taken_by_however_little():
    """The first of equal ones; float32 neighbours of 1 differ by 6e-8."""
    below = float(np.nextafter(np.float32(1), np.float32(0)))
    logits = jnp.array([[below, 1.0, 0.5], [0.0, 0.0, -1.0], [-1e9, -2.0, -2.0 + 3e-7], [3.0, -np.inf, 3.0]])
    assert jax.jit(draw)(jax.random.key(0), logits, jnp.float32(0)).tolist() == [1, 0, 2, 0]


def test_draws_follow_the_distribution_at_any_temperature():
    """Chi-square over five bins, one of them without mass, 1e5 draws, p > 1e-3."""
    n, p = 100_000, np.array([0.5, 0.0, 0.2, 0.05, 0.25])
    with np.errstate(divide="ignore"):
        logits = jnp.broadcast_to(jnp.log(jnp.asarray(p, jnp.float32)), (n, 5))
    for temperature in (1.0, 2.0):
        tempered = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        counts = np.bincount(jax.jit(draw)(jax.random.key(1), logits, jnp.float32(temperature)), minlength=5)
        assert counts[1] == 0
        seen = tempered > 0
        assert stats.chisquare(counts[seen], n * tempered[seen]).pvalue > 1e-3
