"""The prefix: what of the previous chunk is committed, and how much the rest counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd.decode.base import Prefix
from dd.decode.weights import Exp

H = 8


@jax.jit
def read(d, s):
    prefix = Prefix(jnp.zeros((1, H, 2)), d, s)
    return prefix.weights(Exp()), prefix.committed()


def weights(d, s):
    return np.asarray(read(jnp.int32(d), jnp.int32(s))[0])


def test_weights_at_no_delay_are_the_published_ones():
    """d = 0, s = 1 (ANCHORS.md): .71 .49 .32 .19 .10 .04 .01 0."""
    assert weights(0, 1) == pytest.approx([0.71, 0.49, 0.32, 0.19, 0.10, 0.04, 0.01, 0.0], abs=5e-3)


def test_weights_by_hand_at_a_delay():
    """d = 3, s = 3: end = 5, so c = 2/3 and 1/3 at entries 3 and 4; c (e^c - 1) / (e - 1)."""
    c = np.array([2 / 3, 1 / 3])
    assert weights(3, 3) == pytest.approx([1, 1, 1, *(c * np.expm1(c) / np.expm1(1)), 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize(("d", "s"), [(d, s) for d in range(5) for s in range(max(1, d), H - d + 1)])
def test_weights_are_1_while_committed_fall_over_the_overlap_and_end_with_it(d, s):
    found = weights(d, s)
    assert found[:d] == pytest.approx(1.0)
    assert (found[H - s :] == 0).all()
    overlap = found[d : H - s]
    assert (np.diff(overlap) < 0).all()
    assert ((overlap > 0) & (overlap < 1)).all()


@pytest.mark.parametrize("d", [0, 1, 4])
def test_the_first_d_entries_are_committed(d):
    assert np.asarray(read(jnp.int32(d), jnp.int32(4))[1]).tolist() == [i < d for i in range(H)]


@pytest.mark.parametrize(("d", "s"), [(0, 1), (1, 1), (2, 2), (1, 7), (4, 4)])
def test_needed_is_what_will_be_executed_of_the_chunk(d, s):
    """Its first d entries are not, the previous chunk's are; d more are while the next one is computed."""
    needed = Prefix(jnp.zeros((1, H, 2)), jnp.int32(d), jnp.int32(s)).needed()
    assert needed.tolist() == [d <= i < s + d for i in range(H)]
