"""The cut physics play kinetix's own game: same observation, positions, rewards and endings."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dd.env import kinetix as module
from dd.env import level as levels
from dd.env.engine import Touching
from dd.env.kinetix import Kinetix
from dd.env.pairs import pairs

_STEPS = 30
_WORLDS = pathlib.Path(__file__).parents[3] / "shared" / "worlds"
_NAMES = (
    *("grasp_easy", "catapult", "cartpole_thrust", "hard_lunar_lander", "mjc_half_cheetah", "mjc_swimmer"),
    *("mjc_walker", "h17_unicycle", "chain_lander", "catcher_v3", "trampoline", "car_launch"),
)


def _env(name: str, **fields) -> Kinetix:
    """The benchmark's level where its files lie beside the project, else the level of that name inside kinetix-env."""
    file = _WORLDS / "l" / f"{name}.json"
    own = levels.packaged() / "l" / f"{name}.json"
    if not file.is_file() and not own.is_file():
        pytest.skip(f"{file} is absent, and kinetix-env has no level of that name")
    return Kinetix(level=str(file if file.is_file() else own), **fields)


def _actions(env: Kinetix, steps: int) -> np.ndarray:
    spec = env.spec()
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    return np.random.default_rng(0).uniform(low, high, (steps, len(low))).astype(np.float32)


def _steps(env: Kinetix):
    """Traced (level, state, actions) -> last state and the steps' (observation, outcome, position)."""

    def run(level, state, actions):
        def step(state, action):
            state, outcome = env.step(level, state, action, jax.random.key(0))
            place = state.bodies.position.T
            return state, (env.observe(level, state), outcome, place)

        return jax.lax.scan(step, state, actions)

    level = env.load()
    return jax.jit(run).lower(level, env.reset(level, jax.random.key(0)), _actions(env, _STEPS))


@pytest.fixture(scope="module")
def play():
    """(env, level, state, actions) -> as `_steps`; one program for every level of the same shape."""
    envs = {}
    for name in _NAMES:
        with contextlib.suppress(pytest.skip.Exception):
            env = _env(name, action_noise=0.0)
            envs.setdefault(json.dumps(env.program()), env)
    pool = concurrent.futures.ThreadPoolExecutor(2)
    # Traced here, one after the other: shapes were seen to be checked wrongly where two threads trace at once.
    compiled = {program: pool.submit(_steps(env).compile) for program, env in envs.items()}

    def call(env, level, state, actions):
        return jax.tree.map(np.asarray, compiled[json.dumps(env.program())].result()(level, state, actions))

    call.programs = len(compiled)
    yield call
    pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def kinetix():
    """kinetix's own environment for the large set; (file, actions) -> first observation and the steps, uncut."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kinetix.environment import ActionType, EnvParams, ObservationType, make_kinetix_env
        from kinetix.environment.utils import static_env_params_from_size
        from kinetix.util.saving import load_from_json_file

        own = make_kinetix_env(
            *(ActionType.CONTINUOUS, ObservationType.SYMBOLIC_FLAT, None, EnvParams()),
            static_env_params=static_env_params_from_size("l"),
            auto_reset=False,
        )

        @jax.jit
        def run(state, actions):
            def step(state, action):
                obs, state, reward, done, info = own.step_env(None, state, action, EnvParams())
                position = jnp.concatenate([state.polygon.position, state.circle.position])
                return state, (obs, reward, done, info["GoalR"], position.T)

            return own.get_obs(state), jax.lax.scan(step, state, actions)[1]

        def play(file, actions):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                state, static, _ = load_from_json_file(str(file))
                assert static.frame_skip == 2
                return jax.tree.map(np.asarray, run(state, actions))

        yield play


@pytest.mark.parametrize("name", _NAMES)
def test_thirty_steps_of_a_cut_level_are_those_of_kinetix_itself(name, play, kinetix):
    env = _env(name, action_noise=0.0)
    level, actions = env.load(), _actions(env, _STEPS)
    start = env.reset(level, jax.random.key(0))
    first, (obs, reward, done, solved, place) = kinetix(pathlib.Path(env.level).resolve(), actions)
    _, (my_obs, outcome, my_place) = play(env, level, start, actions)

    np.testing.assert_allclose(env.observe(level, start), first, atol=1e-7, rtol=0)
    full = levels.read(pathlib.Path(env.level))
    kept = levels.active(full)
    shapes = np.concatenate([kept.polygon, full.sizes.polygon + kept.circle])
    on = np.concatenate([full.polygon["active"], full.circle["active"]])[shapes]
    np.testing.assert_allclose(my_place[..., on], place[..., shapes][..., on], atol=1e-4, rtol=0)
    np.testing.assert_array_equal(outcome.done, done)
    np.testing.assert_array_equal(outcome.solved, solved)
    alive = slice(done.argmax() + 1 if done.any() else _STEPS)  # kinetix forgets the distance where an episode ends
    np.testing.assert_allclose(outcome.reward[alive], reward[alive], atol=1e-4, rtol=0)
    np.testing.assert_allclose(my_obs, obs, atol=2e-3, rtol=0)  # velocities: 1e-5 m in a step of 1/30 s


def test_uncut_and_cut_levels_show_the_same_observation_bit_for_bit():
    for name in _NAMES[:4]:
        seen = []
        for env in (_env(name), _env(name, cut=False)):
            level = env.load()
            seen.append(np.asarray(env.observe(level, env.reset(level, jax.random.key(0)))))
        assert seen[0].shape == (679,) == env.spec().obs.shape
        np.testing.assert_array_equal(*seen)


def test_levels_of_one_cut_shape_share_one_program(play):
    programs = {json.dumps(_env(name).program()) for name in _NAMES}  # twelve levels
    assert _env("mjc_half_cheetah").program() == _env("mjc_walker").program() == _env("grasp_easy").program()
    assert _env("mjc_swimmer").program() != _env("h17_unicycle").program()
    assert len(programs) == play.programs == 9


def test_an_episode_without_a_goal_ends_after_256_steps(play):
    env = _env("mjc_swimmer", action_noise=0.0)
    level = env.load()
    state, dones, solved = env.reset(level, jax.random.key(0)), [], []
    for _ in range(9):
        state, (_, outcome, _) = play(env, level, state, np.zeros((_STEPS, 6), np.float32))
        dones.append(outcome.done)
        solved.append(outcome.solved)
    assert env.spec().max_steps == 256
    assert np.concatenate(dones).argmax() == 255
    assert not np.concatenate(solved).any()


def test_shaping_is_the_distance_gained_and_a_tenth_of_it_the_reward(play):
    env = _env("mjc_swimmer", action_noise=0.0)
    level, actions = env.load(), _actions(env, _STEPS)
    state, (_, outcome, place) = play(env, level, env.reset(level, jax.random.key(0)), actions)
    full = levels.read(pathlib.Path(env.level))
    listed = pairs(levels.cut(full, levels.active(full)).sizes)
    ((a, b),) = listed.rr[np.asarray(level.goal.rr)]
    distance = np.linalg.norm(place[:, :, a] - place[:, :, b], axis=1)
    np.testing.assert_allclose(outcome.shaping[1:], -np.diff(distance), atol=1e-5)
    np.testing.assert_allclose(outcome.reward, 0.1 * outcome.shaping, atol=1e-7)
    assert state.distance == pytest.approx(distance[-1], abs=1e-5)


def test_what_is_not_a_number_ends_the_episode_unsolved(play):
    env = _env("mjc_swimmer", action_noise=0.0)
    level = env.load()
    state = env.reset(level, jax.random.key(0))
    spinning = state.bodies.angular_velocity.at[4].set(jnp.nan)
    state = state._replace(bodies=state.bodies._replace(angular_velocity=spinning))
    _, (_, outcome, _) = play(env, level, state, np.zeros((_STEPS, 6), np.float32))
    assert outcome.done[0]
    assert not outcome.solved.any()
    assert np.isfinite(outcome.shaping).all()


def test_every_action_gets_gaussian_noise_that_depends_on_the_key_alone(monkeypatch):
    env = _env("h17_unicycle")
    level = env.load()
    state = env.reset(level, jax.random.key(0))
    level = level._replace(motors=jnp.array([0, 1]), thrusters=jnp.array([4]))
    action = jnp.array([0.2, -0.2, 0.0, 0.0, 0.5, 0.0])  # controls are clipped 5 standard deviations away

    class Silent(module.Engine):
        """Physics that only write down the controls: two motors and a thruster."""

        def step(self, scene, bodies, impulses, controls):
            bodies = bodies._replace(angular_velocity=bodies.angular_velocity.at[:3].set(controls))
            return bodies, impulses, Touching(*(jnp.zeros(len(each), bool) for each in self.pairs))

    monkeypatch.setattr(module, "Engine", Silent)
    keys = jax.random.split(jax.random.key(1), 2000)
    step = jax.vmap(lambda key: env.step(level, state, action, key)[0].bodies.angular_velocity[:3])
    noise = np.asarray(step(keys) - jnp.array([0.2, -0.2, 0.5]))
    assert stats.kstest(noise.ravel(), stats.norm(0, 0.1).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.09  # 4 standard errors of 2000 independent pairs
    np.testing.assert_array_equal(step(keys[::-1])[::-1] - jnp.array([0.2, -0.2, 0.5]), noise)
