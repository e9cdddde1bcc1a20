"""The linear path, its velocity, and Euler's order."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dd.schedule.flow import Euler, Flow, FlowState
from tests import tiny

N, H, A = 20_000, 4, 2


@pytest.fixture(scope="module")
def asked():
    """What the network is asked in a loss with prefixes of three lengths, and what it loses when it answers 0."""
    x = np.random.default_rng(0).uniform(-1, 1, (N, H, A)).astype(np.float32)
    kept = np.arange(H) < (np.arange(N) % 3)[:, None]
    seen = []

    def denoise(noisy, t):
        seen.append((np.asarray(noisy), np.asarray(t)))
        return jnp.where(kept[..., None], 1e3, jnp.zeros_like(noisy))

    loss, metrics = Flow().loss(jax.random.key(1), jnp.asarray(x), jnp.asarray(kept), denoise)
    return x, kept, *seen[0], float(loss), metrics


def test_the_path_is_a_line_from_standard_noise_to_the_data_at_uniform_times(asked):
    """KS: times against U(0, 1), (x_t - t x) / (1 - t) against N(0, 1)."""
    x, kept, noisy, t, _, _ = asked
    assert stats.kstest(t[:, -1], "uniform").pvalue > 1e-3
    assert (t == np.where(kept, 1, t[:, -1:])).all()
    free = ~kept & (t < 0.9)
    noise = (noisy - t[..., None] * x)[free] / (1 - t[free])[:, None]
    assert stats.kstest(noise.reshape(-1), "norm").pvalue > 1e-3


def test_a_given_prefix_is_clean_and_not_in_the_loss(asked):
    """An answer of 1,000 there costs nothing; elsewhere 0 loses the mean square of x - noise = (x - x_t) / (1 - t)."""
    x, kept, noisy, t, loss, metrics = asked
    assert (noisy == x)[kept].all()
    free = ~kept & (t < 0.999)
    velocity = (x - noisy)[free] / (1 - t[free])[:, None]
    assert loss == pytest.approx(np.square(velocity).mean(), rel=0.02)
    assert float(metrics["loss"][1]) == (~kept).sum() * A


def test_one_euler_step_by_hand_and_what_is_known_stands_still():
    state = FlowState(jnp.ones((H, A)), jnp.arange(H) < 1)
    after = Euler().step(Flow(), jax.random.key(0), state, jnp.full((H, A), 2.0), jnp.float32(0.25), jnp.float32(0.75))
    assert after.x.tolist() == [[1, 1], [2, 2], [2, 2], [2, 2]]


def test_euler_is_of_first_order():
    """dx/dt = x: slope of log error over log steps between -1.1 and -.9."""
    policy = dataclasses.replace(tiny.policy(), process=Flow())
    keys = jax.random.split(jax.random.key(0), 3)
    start = policy.prior(keys)
    run = jax.jit(lambda n: policy.sample(lambda x, t: x, Euler(), keys, start, n)[0].x)
    steps = np.array([8, 16, 32, 64])
    errors = [float(jnp.abs(run(n) - jnp.e * start.x).max()) for n in steps]
    assert -1.1 < np.polyfit(np.log(steps), np.log(errors), 1)[0] < -0.9


def test_a_straight_velocity_leads_to_the_data_in_one_step():
    """v = (y - x) / (1 - t): one step lands on y, five too; `clean` says so from any time."""
    policy, y = dataclasses.replace(tiny.policy(), process=Flow()), 0.3
    keys = jax.random.split(jax.random.key(0), 3)

    def velocity(x, t):
        return (y - x) / (1 - t)[..., None]

    for n in (1, 5):
        state, asked = policy.sample(velocity, Euler(), keys, policy.prior(keys), n)
        assert np.asarray(state.x) == pytest.approx(y, abs=1e-5)
        assert (asked == n).all()
    x, t = jax.random.normal(keys[0], (3, 8, 2)), jnp.full((3, 8), 0.4)
    assert np.asarray(Flow().clean(x, velocity(x, t), t)) == pytest.approx(y, abs=1e-6)
