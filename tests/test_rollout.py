"""Closed-loop evaluation: the execution rule, what an episode may depend on, one program for a grid, little waste."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd import fields, rollout
from dd.decode.base import POLICY as POLICY_NAME
from dd.decode.base import Prefix
from dd.decode.hard_masking import HardMasking
from dd.decode.naive import Naive
from dd.decode.realtime import Realtime
from dd.env.pointmass import PointMass
from dd.rollout import Rollout, _Streams
from dd.schedule.masked import MaskGIT
from tests import tiny

H, EPISODES = 6, 9


@fields.configuration
class Tracked(PointMass):
    """A point on a torus, so that it docks by chance again and again; no two ways to act have the same return.

    The reward is the distance gained, each step weighted otherwise.
    """

    def step(self, level, state, action, key):
        following, outcome = super().step(level, state, action, key)
        following = following._replace(offset=(following.offset + 1) % 2 - 1)
        return following, outcome._replace(reward=outcome.shaping * (1.0 + 0.1 * state.step))


WORLD = Tracked(speed=0.4, radius=0.4, hold=2)
LEVEL_ID, DECODE = WORLD.level_id(), Realtime()
POLICY = dataclasses.replace(tiny.policy(chunk=H), spec=WORLD.spec())
PAIRS = [(d, s) for d in range(4) for s in range(max(1, d), H - d + 1)]
SOME = [(0, 1), (0, 6), (1, 2), (2, 4), (3, 3)]


def leaves(d, s, *, n=3, strength=0.05, env_seed=0, policy_seed=0, level_id=LEVEL_ID, **sampler):
    return rollout.leaves(
        Realtime(num_flow_steps=n, strength=float(strength)),
        MaskGIT(**sampler),
        inference_delay=d,
        execute_horizon=s,
        env_seed=env_seed,
        policy_seed=policy_seed,
        level_id=level_id,
    )


@functools.cache
def program(slots, num_evals=EPISODES, decode=DECODE, early_stop=False):
    return jax.jit(Rollout(WORLD, POLICY, decode, MaskGIT(early_stop=early_stop), num_evals, slots).__call__)


def run(params, numbers, **which):
    return jax.device_get(program(**which)({POLICY_NAME: params}, WORLD.load(), numbers))


def same(a, b):
    return all((getattr(a, name) == getattr(b, name)).all() for name in ("solved", "length", "return_"))


@pytest.fixture(scope="module")
def params():
    return tiny.params(POLICY)


@pytest.fixture(scope="module")
def still(params):
    """A policy that takes the first bin, whatever it sees, at token temperature 0."""
    return jax.tree.map(jnp.zeros_like, params)


@jax.jit
def _begin(params, numbers, episode):
    """Reset, and the naive chunk A."""
    streams, level = _Streams.of(numbers), WORLD.load()
    state = WORLD.reset(level, streams.reset(episode[None])[0])
    numbered = {name.removeprefix("decode."): x for name, x in numbers.items() if name == "decode.num_flow_steps"}
    decode = fields.bind(Naive(), numbered)
    sampler = fields.bind(MaskGIT(), numbers, "sampler.")
    empty = Prefix(jnp.zeros((1, H, 2)), jnp.int32(0), jnp.int32(1))
    obs = WORLD.observe(level, state)[None]
    return state, decode.chunk(
        POLICY, sampler, {POLICY_NAME: params}, streams.opening(episode[None]), obs, empty
    ).actions[0]


@jax.jit
def _next_chunk(params, numbers, state, before, episode, step):
    """Chunk B from the current observation, conditioned on A."""
    decode, sampler = fields.bind(Realtime(), numbers, "decode."), fields.bind(MaskGIT(), numbers, "sampler.")
    prefix = Prefix(before[None], numbers["inference_delay"], numbers["execute_horizon"])
    obs = WORLD.observe(WORLD.load(), state)[None]
    keys = _Streams.of(numbers).policy(episode[None], step[None])
    return decode.chunk(POLICY, sampler, {POLICY_NAME: params}, keys, obs, prefix).actions[0]


@jax.jit
def _env_step(numbers, state, action, episode, step):
    key = _Streams.of(numbers).env(episode[None], step[None])[0]
    return WORLD.step(WORLD.load(), state, action, key)


def one_episode(params, d, s, episode):
    """ANCHORS.md's execution rule, word by word: (solved, length, return)."""
    numbers, episode = leaves(d, s), np.int32(episode)
    state, chunk = _begin(params, numbers, episode)
    length, total = 0, 0.0
    while True:
        fresh = _next_chunk(params, numbers, state, chunk, episode, np.int32(length))
        actions = [*np.asarray(chunk)[:d], *np.asarray(fresh)[d:s]]
        assert len(actions) == s
        for action in actions:
            state, outcome = _env_step(numbers, state, jnp.asarray(action), episode, np.int32(length))
            length, total = length + 1, total + float(outcome.reward)
            if outcome.done:
                return bool(outcome.solved), length, total
        chunk = jnp.concatenate([fresh[s:], jnp.zeros((s, 2))])


@pytest.mark.parametrize(("d", "s"), SOME)
def test_episodes_are_those_of_the_rule_taken_step_by_step(params, d, s):
    episodes = run(params, leaves(d, s), slots=3)
    expected = [one_episode(params, d, s, number) for number in range(EPISODES)]
    assert episodes.solved.tolist() == [each[0] for each in expected]
    assert episodes.length.tolist() == [each[1] for each in expected]
    assert episodes.return_ == pytest.approx([each[2] for each in expected], abs=1e-4)
    assert len(set(episodes.length.tolist())) > 2


@pytest.mark.parametrize(("d", "s"), SOME)
def test_an_episode_does_not_depend_on_its_slot_nor_on_the_others(params, d, s):
    """Bit-equal with 1, 3 and 9 slots, and as the first of 128 episodes."""
    three = run(params, leaves(d, s), slots=3)
    assert same(three, run(params, leaves(d, s), slots=1))
    assert same(three, run(params, leaves(d, s), slots=9))
    many = run(params, leaves(d, s), slots=2, num_evals=128)
    assert same(
        three, many._replace(**{name: getattr(many, name)[:EPISODES] for name in ("solved", "length", "return_")})
    )


def test_one_compiled_program_serves_the_whole_grid(params):
    """Every (d, s), steps, temperatures, strength and seeds; outcomes differ, so the numbers are read."""
    grid = [leaves(d, s) for d, s in PAIRS]
    grid += [leaves(1, 2, n=n) for n in (1, 2, 9)]
    grid += [leaves(1, 2, strength=strength) for strength in (0.0, 3.0)]
    grid += [leaves(1, 2, choice_temperature=0.0), leaves(1, 2, token_temperature=0.3)]
    grid += [leaves(1, 2, env_seed=5), leaves(1, 2, policy_seed=5), leaves(1, 2, level_id=2**32 - 1)]
    returns = {run(params, numbers, slots=3).return_.tobytes() for numbers in grid}
    assert program(slots=3)._cache_size() == 1
    assert len(returns) == len(grid)


def test_a_cell_of_the_grid_equals_itself_compiled_alone(params):
    """d, s and all other numbers as constants of the program, the way one would write it for one cell."""
    numbers = leaves(2, 4)
    alone = jax.jit(
        lambda params: Rollout(WORLD, POLICY, Realtime(), MaskGIT(), EPISODES, 3)(
            {POLICY_NAME: params}, WORLD.load(), numbers
        )
    )
    assert same(jax.device_get(alone(params)), run(params, numbers, slots=3))


def test_policies_that_act_alike_see_the_same_episodes(still):
    """Whatever delay, horizon, steps, policy seed and decode: the environment's noise knows of none."""
    first = run(still, leaves(0, 1, token_temperature=0.0), slots=3)
    for d, s in PAIRS[1:]:
        assert same(first, run(still, leaves(d, s, n=1 + d, policy_seed=d, token_temperature=0.0), slots=3))
    assert same(first, run(still, leaves(1, 2, token_temperature=0.0), slots=3, decode=Naive()))
    for other in ({"env_seed": 1}, {"level_id": 7}):
        elsewhere = run(still, leaves(0, 1, token_temperature=0.0, **other), slots=3)
        assert (first.return_ != elsewhere.return_).all()


def test_episodes_differ_from_each_other(params, still):
    """Each number has noise of its own, in the world and in the policy."""
    assert len(set(run(still, leaves(0, 1, token_temperature=0.0), slots=3).return_.tolist())) == EPISODES
    assert len(set(run(params, leaves(0, 1), slots=2, num_evals=128).return_.tolist())) == 128


@pytest.mark.parametrize(("d", "s"), [(0, 1), (0, 6), (1, 3), (3, 3)])
def test_little_is_spent_on_episodes_that_are_over(params, d, s):
    """iterations x slots <= 1.25 x the sum of lengths, at num_evals = 64 x slots; no step is counted twice."""
    episodes = run(params, leaves(d, s), slots=2, num_evals=128)
    spent, used = int(episodes.iterations) * 2, int(episodes.length.sum())
    assert used <= spent <= 1.25 * used
    assert episodes.length.min() >= 1
    assert episodes.length.max() <= WORLD.max_steps
    assert (episodes.solved | (episodes.length == WORLD.max_steps)).all()


def test_more_slots_than_episodes_are_not_opened(params):
    numbers = leaves(1, 1)
    assert same(run(params, numbers, slots=9), run(params, numbers, slots=3))
    nine = run(params, numbers, slots=9)
    assert int(nine.iterations) == nine.length.max()


@pytest.mark.parametrize("decode", [Naive(), HardMasking()], ids=["naive", "hard_masking"])
@pytest.mark.parametrize(("d", "s"), [(0, 1), (1, 1), (1, 2), (2, 2)])
def test_stopping_early_changes_no_episode_and_saves_evaluations(params, decode, d, s):
    """Bit-equal outcomes over whole episodes; without it every chunk takes all six steps."""
    numbers = leaves(d, s, n=6)
    whole = run(params, numbers, slots=3, decode=decode)
    early = run(params, numbers, slots=3, decode=decode, early_stop=True)
    assert same(whole, early)
    assert (whole.evaluations == 6 * whole.chunks).all()
    assert (early.chunks == whole.chunks).all()
    assert early.evaluations.sum() < whole.evaluations.sum()
    assert (whole.chunks == -(-whole.length // s)).all()
