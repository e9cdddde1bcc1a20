"""The soft pull: nothing at strength 0 or without overlap, and nearer to the plan the stronger it is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd.decode.base import Prefix
from dd.decode.hard_masking import HardMasking
from dd.decode.naive import Naive
from dd.decode.realtime import Realtime
from dd.decode.weights import Exp
from tests import tiny


@pytest.mark.parametrize(("d", "s"), [(0, 1), (2, 3)])
def test_strength_0_is_hard_masking(token_chunks, d, s):
    assert (token_chunks(Realtime(strength=0.0), d, s) == token_chunks(HardMasking(), d, s)).all()


@pytest.mark.parametrize("d", [0, 1, 4])
def test_without_overlap_it_is_hard_masking(token_chunks, d):
    """s = H - d: nothing is left of the plan but what is imposed; at d = 0 that is naive."""
    assert (token_chunks(Realtime(strength=5.0), d, 8 - d) == token_chunks(HardMasking(), d, 8 - d)).all()
    if d == 0:
        assert (token_chunks(Realtime(strength=5.0), 0, 8) == token_chunks(Naive(), 0, 8)).all()


def test_at_no_delay_it_still_differs_from_naive(token_chunks):
    assert (token_chunks(Realtime(strength=1.0), 0, 1) != token_chunks(Naive(), 0, 1)).any()


def test_the_stronger_the_pull_the_nearer_the_plan(chunks, prefix):
    """Mean distance over the overlap's first half falls with strength, down to the bins' own width."""
    strengths = [0.0, 0.02, 0.1, 1.0, 100.0]
    distance = [np.abs(chunks(Realtime(strength=each), 1, 1) - prefix)[:, 1:4].mean() for each in strengths]
    assert all(b < a for a, b in itertools.pairwise(distance))
    assert distance[0] > 0.4
    assert distance[-1] <= 1 / 8


def test_beyond_the_overlap_there_is_no_pull(policy, prefix):
    """The logits' change by hand: strength w_h (c_v - y_h)^2 / (2 sigma^2), 0 from entry H - s on."""
    decode, d, s = Realtime(strength=0.5, sigma=0.2), 2, 3
    seen = Prefix(jnp.asarray(prefix), jnp.int32(d), jnp.int32(s))
    logits = jax.random.normal(jax.random.key(0), (16, 8, 2, 8))
    change = np.asarray(logits - decode.during(policy, lambda x, t: logits, seen)(None, None))
    centres = -1 + (np.arange(8) + 0.5) / 4
    expected = (centres - prefix[..., None]) ** 2 * np.asarray(seen.weights(Exp()))[:, None, None] * 0.5 / (2 * 0.04)
    assert change == pytest.approx(expected, abs=1e-5)
    assert (change[:, 5:] == 0).all()
    assert change[:, :5].max() > 1


def test_the_committed_part_is_imposed_however_weak_the_pull(chunks, policy, prefix):
    found = chunks(Realtime(strength=1e-6), 3, 3)
    assert (tiny.bins(policy, found) == tiny.bins(policy, prefix))[:, :3].all()
