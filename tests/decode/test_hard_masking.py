"""The first d actions of the prefix are kept, to the width of a bin; at d = 0 nothing is."""

import numpy as np
import pytest

from dd.decode.hard_masking import HardMasking
from dd.decode.naive import Naive
from tests import tiny


@pytest.mark.parametrize("s", [1, 4, 8])
def test_without_delay_it_is_naive(token_chunks, s):
    assert (token_chunks(HardMasking(), 0, s) == token_chunks(Naive(), 0, s)).all()


@pytest.mark.parametrize(("d", "s"), [(1, 1), (2, 5), (4, 4)])
def test_the_first_d_actions_are_the_prefixs_and_the_rest_is_sampled(token_chunks, policy, prefix, d, s):
    """Kept to their own bin (half a width of 1/8), as in every step before; the rest is not what the prefix says."""
    found = token_chunks(HardMasking(), d, s)
    agrees = tiny.bins(policy, found) == tiny.bins(policy, prefix)
    assert agrees[:, :d].all()
    assert np.abs(found - prefix)[:, :d].max() <= 1 / 8 + 1e-6
    assert agrees[:, d:].mean() < 0.4


def test_what_is_sampled_depends_on_what_is_kept(chunks):
    """The network reads the imposed tokens: the rest is not what naive gives."""
    assert (chunks(HardMasking(), 4, 4)[:, 4:] != chunks(Naive(), 4, 4)[:, 4:]).any()


def test_horizon_and_the_plan_after_the_delay_do_not_matter(chunks):
    assert (chunks(HardMasking(), 2, 2) == chunks(HardMasking(), 2, 6)).all()


@pytest.mark.parametrize("num_flow_steps", [1, 3, 40])
def test_any_number_of_steps_ends_with_actions_inside_the_range(chunks, num_flow_steps):
    assert np.abs(chunks(HardMasking(num_flow_steps=num_flow_steps), 3, 3)).max() <= 1 - 1 / 8
