"""The tiny world: its optimal policy docks in the number of steps that the docstring gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dd import fields
from dd.env.pointmass import PointMass

_EPISODES = 512


def _play(env: PointMass, level):
    """Episodes under the optimal policy: solved, length, goal offset at the start."""

    def episode(key):
        start = env.reset(level, jax.random.fold_in(key, 0))

        def step(carry, i):
            state, over, length, solved = carry
            action = env.optimal_action(level, state)
            state, outcome = env.step(level, state, action, jax.random.fold_in(key, i + 1))
            solved = solved | (outcome.solved & ~over)
            return (state, over | outcome.done, length + ~over, solved), None

        carry = (start, jnp.bool_(False), jnp.int32(0), jnp.bool_(False))
        (_, over, length, solved), _ = jax.lax.scan(step, carry, jnp.arange(env.max_steps))
        return over, solved, length, start.offset

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), _EPISODES)))


def test_optimal_policy_needs_exactly_the_known_number_of_steps_without_noise():
    env = PointMass(action_noise=0.0)
    over, solved, length, offset = _play(env, env.load())
    n = np.arange(20)[:, None, None]
    left = np.linalg.norm(np.maximum(np.abs(offset) - n * env.speed, 0), axis=-1)
    reach = np.maximum(1, (left <= env.radius).argmax(0))
    assert over.all()
    assert solved.all()
    np.testing.assert_array_equal(length, env.hold - 1 + reach)


def test_optimal_policy_solves_almost_all_episodes_under_noise():
    env = PointMass()
    over, solved, length, _ = _play(env, env.load())
    assert over.all()
    assert solved.mean() >= 0.99
    assert length.mean() < 10


def test_an_episode_that_never_docks_ends_unsolved_at_max_steps():
    env = PointMass()
    level = env.load() | {"radius": jnp.float32(-1.0)}
    over, solved, length, _ = _play(env, level)
    assert over.all()
    assert not solved.any()
    assert (length == env.max_steps).all()


def test_action_noise_is_gaussian_and_differs_by_step_and_axis():
    env = PointMass(action_noise=0.1)
    level, state = env.load(), env.reset(env.load(), jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 4000)
    after, _ = jax.vmap(env.step, (None, None, None, 0))(level, state, jnp.array([0.3, -0.2]), keys)
    noise = np.asarray(after.velocity) / env.speed - np.array([0.3, -0.2])
    assert stats.kstest(noise.ravel(), stats.norm(0, 0.1).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.06  # 4 standard errors of 4000 independent pairs


def test_shaping_sums_to_the_distance_gained():
    env = PointMass(hold=32)
    level, state = env.load(), env.reset(env.load(), jax.random.key(3))
    first, total = np.linalg.norm(state.offset), 0.0
    for i in range(5):
        state, outcome = env.step(level, state, jnp.array([0.5, 0.1]), jax.random.key(i))
        total += float(outcome.shaping)
    assert total == pytest.approx(first - np.linalg.norm(state.offset), abs=1e-5)


def test_speed_radius_and_noise_share_a_program_but_not_a_key():
    base, other = PointMass(), PointMass(speed=0.1, radius=0.03, action_noise=0.2)
    assert base.program() == other.program()
    assert base.program() != PointMass(hold=5).program()
    assert fields.digest(fields.content(base)) != fields.digest(fields.content(other))
    assert base.level_id() != other.level_id()
    assert 0 <= base.level_id() < 2**32
