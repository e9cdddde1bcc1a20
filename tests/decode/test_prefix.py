"""Given prefixes: exact in the chunk, at time 1 for the network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd.decode.base import Prefix
from dd.decode.hard_masking import HardMasking
from dd.decode.naive import Naive
from dd.decode.prefix import GivenPrefix
from dd.schedule.flow import Euler
from dd.schedule.uniform import Uniform


@pytest.mark.parametrize("s", [1, 5])
def test_without_delay_it_is_naive(flow_chunks, s):
    assert (flow_chunks(GivenPrefix(), 0, s) == flow_chunks(Naive(), 0, s)).all()


@pytest.mark.parametrize(("d", "s"), [(1, 1), (4, 4)])
def test_the_first_d_actions_are_the_prefixs_exactly_and_the_rest_knows_of_them(flow_chunks, prefix, d, s):
    found, naive = flow_chunks(GivenPrefix(), d, s), flow_chunks(Naive(), d, s)
    assert (found[:, :d] == prefix[:, :d]).all()
    assert (found[:, d:] != naive[:, d:]).all()


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("process", ["flow", "uniform"])
def test_what_is_given_is_at_time_1_for_a_policy_trained_with_it(flow, prefix, process, trained):
    """The others are at the step's own time, and so is everything for a policy that never saw such times."""
    kind = flow.process if process == "flow" else Uniform(num_bins=8)
    policy = dataclasses.replace(flow, process=kind, simulated_delay=trained)
    decode = GivenPrefix() if process == "flow" else HardMasking()
    plan = Prefix(jnp.asarray(prefix), jnp.int32(3), jnp.int32(3))
    keys = jax.random.split(jax.random.key(0), len(prefix))
    state = decode.before(policy, policy.prior(keys), plan)
    t = np.asarray(policy._times(state, jnp.float32(0.4)))
    expected = np.where((np.arange(8) < 3) & trained, 1.0, np.float32(0.4))
    assert (t == expected).all()
    if process == "flow":
        moved, _ = policy.sample(lambda x, t: jnp.ones_like(x), Euler(), keys, state, 4)
        assert (moved.x[:, :3] == prefix[:, :3]).all()
        assert np.asarray(moved.x - state.x)[:, 3:] == pytest.approx(1.0, abs=1e-5)
