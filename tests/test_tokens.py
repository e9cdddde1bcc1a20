"""Bins cover each dimension's range evenly and stand for their centres."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd.tokens import Bins

BINS = Bins(low=(-1.0, 0.0, 100.0), high=(1.0, 1.0, 612.0), num_bins=7)
WIDTH = np.array([2.0, 1.0, 512.0]) / 7


@pytest.mark.parametrize("num_bins", [2, 7, 512, 65536])
def test_decoding_then_encoding_gives_every_token_back(num_bins):
    bins = BINS._replace(num_bins=num_bins)
    tokens = jnp.broadcast_to(jnp.arange(num_bins)[:, None], (num_bins, 3))
    assert (bins.encode(bins.decode(tokens)) == tokens).all()


def test_encoding_then_decoding_moves_an_action_by_half_a_bin_at_most():
    """And by nearly that much somewhere: the bound is tight for centres, twice as large for edges."""
    actions = jax.random.uniform(jax.random.key(0), (20_000, 3)) * (WIDTH * 7) + np.array(BINS.low)
    moved = np.abs(BINS.decode(BINS.encode(actions)) - actions) / WIDTH
    assert moved.max(0) == pytest.approx([0.5, 0.5, 0.5], abs=2e-3)


def test_an_even_spread_of_actions_fills_the_bins_evenly():
    grid = np.linspace(0, 1, 7 * 100, endpoint=False)[:, None] + 0.5 / 700
    tokens = BINS.encode(jnp.asarray(grid * WIDTH * 7 + np.array(BINS.low), jnp.float32))
    for dimension in range(3):
        assert np.bincount(tokens[:, dimension], minlength=7).tolist() == [100] * 7


def test_actions_outside_the_range_fall_into_the_outermost_bins():
    actions = jnp.array([[-9.0, -0.01, 0.0], [1.0, 1.0, 612.0], [7.0, 1.01, 1e6]])
    assert BINS.encode(actions).tolist() == [[0, 0, 0], [6, 6, 6], [6, 6, 6]]


def test_centres_are_the_values_that_tokens_decode_to():
    tokens = jnp.broadcast_to(jnp.arange(7)[:, None], (7, 3))
    assert (BINS.centres() == BINS.decode(tokens).T).all()
    assert BINS.centres()[:, 0] == pytest.approx([-1 + 1 / 7, 1 / 14, 100 + 256 / 7])
