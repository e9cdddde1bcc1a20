"""The sampling loop: one chunk's way depends on its own key and state alone; a policy survives its file."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd import arrays
from dd.policy import LoadedPolicy, Policy
from dd.schedule.base import AbstractSampler
from dd.schedule.masked import MaskGIT
from tests import tiny

POLICY = tiny.policy()
N = 5
OBS = jax.random.normal(jax.random.key(1), (6, 4))
KEYS = jax.random.split(jax.random.key(2), 6)


@pytest.fixture(scope="module")
def params():
    return tiny.params(POLICY)


@pytest.fixture(scope="module")
def sample(params):
    """Tokens of chunks from any state and step; one program per number of chunks."""

    @jax.jit
    def run(obs, keys, state, first_step=0, n=N):
        return POLICY.sample(POLICY.denoiser(params, obs), MaskGIT(), keys, state, n, first_step)[0]

    return lambda obs, keys, state=None, **rest: run(obs, keys, POLICY.prior(keys) if state is None else state, **rest)


@pytest.fixture(scope="module")
def by_hand(params):
    """The states before the first and after every step, by calling the sampler in a Python loop."""

    @jax.jit
    def step(k, state):
        logits = POLICY.denoiser(params, OBS)(state.tokens, None)
        keys = jax.vmap(jax.random.fold_in, (0, None))(KEYS, k)
        advance = functools.partial(MaskGIT().step, POLICY.process)
        times = jnp.float32(k / N), jnp.float32((k + 1) / N)
        return jax.vmap(lambda *one: advance(*one, *times))(keys, state, logits)

    states = [POLICY.prior(KEYS)]
    for k in range(N):
        states.append(step(k, states[-1]))
    return states


def test_the_loop_takes_the_steps_one_after_the_other(sample, by_hand):
    tokens = sample(OBS, KEYS).tokens
    assert (tokens == by_hand[-1].tokens).all()
    assert tokens.shape == (6, 8, 2)
    assert int(tokens.max()) < POLICY.process.num_bins
    assert len(np.unique(np.asarray(tokens).reshape(6, -1), axis=0)) == 6


@pytest.mark.parametrize("first_step", [0, 2, 4, 5])
def test_from_a_state_on_the_way_the_loop_ends_as_the_whole_does(sample, by_hand, first_step):
    """Also from the finished one, where nothing is left to do."""
    tail = sample(OBS, KEYS, by_hand[first_step], first_step=first_step)
    assert (tail.tokens == by_hand[-1].tokens).all()


def test_a_chunk_depends_on_its_own_key_and_observation_only(sample):
    """Bit-equal alone, in other company and in another order."""
    whole = np.asarray(sample(OBS, KEYS).tokens)
    order = np.array([3, 0, 5, 1, 4, 2])
    assert (np.asarray(sample(OBS[order], KEYS[order]).tokens) == whole[order]).all()
    for i in range(0, 6, 2):
        assert (np.asarray(sample(OBS[i : i + 1], KEYS[i : i + 1]).tokens) == whole[i : i + 1]).all()
    others = jax.random.split(jax.random.key(3), 6).at[2].set(KEYS[2])
    mixed = np.asarray(sample(OBS.at[:2].set(9.0), others).tokens)
    assert (mixed[2] == whole[2]).all()
    assert all((mixed[i] != whole[i]).any() for i in (0, 1, 3, 4, 5))


class Recording(AbstractSampler):
    def step(self, process, key, state, prediction, t, t_next):
        told = jnp.stack([t, t_next, prediction[0]])
        return state._replace(times=state.times.at[state.count].set(told), count=state.count + 1)


@pytest.mark.parametrize(("n", "first_step"), [(1, 0), (3, 0), (7, 0), (7, 4)])
def test_times_run_from_0_to_exactly_1_and_the_network_is_told(n, first_step):
    """Step k: t = k / n, t_next = (k + 1) / n; the last is 1.0 bit for bit, whatever n."""
    policy = Policy(tiny.Times(), POLICY.model, tiny.WORLD.spec(), 8)

    @jax.jit
    def run(n, first_step):
        return policy.sample(
            lambda x, t: jnp.broadcast_to(t, x.shape[:2]), Recording(), KEYS, policy.prior(KEYS), n, first_step
        )

    state, asked = run(n, first_step)
    times, count = np.asarray(state.times), np.asarray(state.count)
    assert (asked == n - first_step).all()
    assert (count == n - first_step).all()
    t, t_next, told = times[0, : n - first_step].T
    expected = np.arange(first_step, n + 1) / np.float32(n)
    assert (t == expected[:-1].astype(np.float32)).all()
    assert (t_next == expected[1:].astype(np.float32)).all()
    assert t_next[-1] == 1.0
    assert (told == t).all()
    assert (times == times[0]).all()


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    (folder / "policy.json").write_text(json.dumps(POLICY.describe()))
    arrays.write(folder / "last.safetensors", params)
    arrays.write(folder / "best.safetensors", tiny.params(POLICY, seed=1))
    return folder


def test_a_policy_written_then_read_gives_the_same_chunk(folder, params):
    loaded = LoadedPolicy.read(folder)
    assert loaded.policy == POLICY
    here, there = LoadedPolicy(POLICY, params), loaded
    chunks = [np.asarray(each.action(KEYS[0], np.asarray(OBS[0]))) for each in (here, there)]
    assert (chunks[0] == chunks[1]).all()
    assert (LoadedPolicy.read(folder, "best").action(KEYS[0], OBS[0]) != chunks[0]).any()


def test_a_loaded_policys_action_is_the_loops(folder, sample):
    chunk = LoadedPolicy.read(folder).action(KEYS[3], OBS[3])
    assert (chunk == POLICY.actions(sample(OBS, KEYS))[3]).all()
    assert float(jnp.abs(chunk).max()) <= 1 - 1 / POLICY.process.num_bins


def test_a_loaded_policy_refuses_what_it_can_not_answer(folder):
    """Without a step everything would still be MASK, an action beyond the range."""
    loaded = LoadedPolicy.read(folder)
    with pytest.raises(TypeError, match=r"\(3,\) where \(4,\)"):
        loaded.action(KEYS[0], OBS[0, :3])
    with pytest.raises(ValueError, match="num_flow_steps=0"):
        loaded.action(KEYS[0], OBS[0], num_flow_steps=0)


def test_encoding_actions_and_decoding_states_meet_at_bin_centres():
    tokens = jax.random.randint(KEYS[0], (3, 8, 2), 0, 8)
    state = jax.vmap(lambda x: POLICY.process.impose(POLICY.process.prior(KEYS[0], 8, 2), x, jnp.ones(8, bool)))(tokens)
    assert (POLICY.encode(POLICY.actions(state)) == tokens).all()
