"""MaskGIT's reverse step: how many are committed, which, and what the whole loop samples from."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from dd import fields
from dd.schedule.masked import Masked, MaskedState, MaskGIT
from dd.schedule.order import Confidence, Random
from dd.schedule.ratio import Cosine, Linear
from tests import tiny

H, A, V = 8, 3, 4
PROCESS = Masked(num_bins=V)
MASK = PROCESS.mask_token
SURE = Confidence()


def begin(imposed=0, x=None):
    """A fresh state whose first rows read x."""
    tokens = np.full((H, A), MASK, np.int32)
    tokens[:imposed] = 0 if x is None else x[:imposed]
    return MaskedState(tokens, np.arange(H) < imposed, np.zeros((H, A), np.float32))


def bound(ratio, numbers, order=SURE):
    sampler = MaskGIT(decode_schedule=ratio, commit_order=order)
    return fields.bind(sampler, dict(fields.leaves(sampler)) | numbers)


@functools.partial(jax.jit, static_argnums=(0, 1))
def step(process, ratio, numbers, key, state, logits, t, t_next):
    return bound(ratio, numbers).step(process, key, state, logits, t, t_next)


def leaves(**temperatures):
    return {name: np.float32(value) for name, value in fields.leaves(MaskGIT(**temperatures))}


def trace(ratio, n, state, **temperatures):
    """Tokens before the first and after every step, logits new in every step."""
    states, random = [state], np.random.default_rng(0)
    for k in range(n):
        logits = random.normal(scale=2, size=(H, A, V)).astype(np.float32)
        key, t, t_next = jax.random.key(k), np.float32(k / n), np.float32((k + 1) / n)
        states.append(step(PROCESS, ratio, leaves(**temperatures), key, states[-1], logits, t, t_next))
    return [np.asarray(each.tokens) for each in states]


@pytest.mark.parametrize("imposed", [0, 3])
@pytest.mark.parametrize(
    ("ratio", "gamma"),
    [(Cosine(), lambda t: np.cos(np.pi * t / 2)), (Linear(), lambda t: 1 - t)],
    ids=["cosine", "linear"],
)
@pytest.mark.parametrize("n", [1, 3, 5, 24])
def test_the_number_still_masked_follows_the_schedule(ratio, gamma, n, imposed):
    """floor(gamma(t') total), at least one committed while any is left, none left at 1; imposed entries don't count."""
    tokens = trace(ratio, n, begin(imposed))
    total = (H - imposed) * A
    expected = [total]
    for k in range(1, n + 1):
        scheduled = int(np.floor(gamma(k / n) * total + 1e-9))  # in double precision, whole numbers stay whole
        expected.append(0 if k == n else max(0, min(scheduled, expected[-1] - 1)))
    assert [int((each == MASK).sum()) for each in tokens] == expected


def test_more_steps_than_tokens_commit_one_each_and_then_rest():
    tokens = trace(Cosine(), 40, begin(imposed=6))
    left = [int((each == MASK).sum()) for each in tokens]
    assert all(0 <= a - b <= 1 for a, b in itertools.pairwise(left))
    assert left[0] == 6
    assert left[-1] == 0


def test_committed_and_imposed_tokens_never_change():
    x = np.random.default_rng(1).integers(0, V, (H, A), dtype=np.int32)
    tokens = trace(Cosine(), 6, begin(2, x), choice_temperature=5.0)
    for before, after in itertools.pairwise(tokens):
        known = before != MASK
        assert (before == after)[known].all()
    assert (tokens[-1][:2] == x[:2]).all()
    assert (tokens[-1] < V).all()


def one_step(logits, key=0, t=0.0, t_next=0.5, **temperatures):
    """Which of the entries of an all-masked [n, 1] state are committed, and their tokens."""
    logits = np.asarray(logits, np.float32)[:, None, :]
    n, _, v = logits.shape
    state = MaskedState(np.full((n, 1), v, np.int32), np.zeros(n, bool), np.zeros((n, 1), np.float32))
    times = np.float32(t), np.float32(t_next)
    after = step(Masked(num_bins=v), Linear(), leaves(**temperatures), jax.random.key(key), state, logits, *times)
    return np.asarray(after.tokens)[:, 0]


@functools.partial(jax.jit, static_argnums=0, static_argnames=("order", "draws"))
def many(ratio, numbers, logits, t_next, order=SURE, draws=10_000):
    """Tokens of so many independent single steps of one state, all masked before."""
    n, _, v = logits.shape
    state = MaskedState(jnp.full((n, 1), v), jnp.zeros(n, bool), jnp.zeros((n, 1)))
    sampler, process = bound(ratio, numbers, order), Masked(num_bins=v)
    one = jax.vmap(lambda key: sampler.step(process, key, state, logits, jnp.float32(0), t_next).tokens[:, 0])
    return one(jax.random.split(jax.random.key(1), draws))


def test_the_most_confident_are_committed_first_by_log_probability():
    """Entry 0 has the largest logit (9) but p = .5, entry 1 p = .88, entry 2 p = .73, entry 3 p = .57.

    By the largest logit, or the right rule upside down, entry 0 would be among the two committed.
    """
    logits = [[9.0, 9.0], [0.0, 2.0], [1.0, 0.0], [0.3, 0.0]]
    tokens = one_step(logits, token_temperature=0.0, choice_temperature=0.0)
    assert tokens.tolist() == [2, 1, 0, 2]


def test_token_temperature_0_takes_the_most_probable_token_and_1_samples():
    """At 1 the shares are softmax's, at 2 those of half the logits: 1e4 draws within 4 standard errors."""
    logits, n = np.log(np.array([[[0.6, 0.3, 0.1]]], np.float32)), 10_000

    def draws(temperature):
        tokens = many(Cosine(), leaves(token_temperature=temperature), logits, np.float32(1))
        return np.bincount(np.asarray(tokens)[:, 0], minlength=3) / n

    assert draws(0.0).tolist() == [1, 0, 0]
    for temperature in (1.0, 2.0):
        p = np.array([0.6, 0.3, 0.1]) ** (1 / temperature)
        p /= p.sum()
        assert (np.abs(draws(temperature) - p) < 4 * np.sqrt(p * (1 - p) / n)).all()


def test_the_choice_noise_is_gumbel_scaled_by_temperature_and_annealed():
    """Of two entries with gap c one is committed: the sure one with probability 1 / (1 + e^(-c / (T (1 - t')))).

    A difference of two Gumbel variables is logistic. c = log .9 - log .6; 1e4 draws within 4 standard errors.
    """
    logits, n, gap = np.log(np.array([[[0.9, 0.1]], [[0.6, 0.4]]], np.float32)), 10_000, np.log(1.5)
    for temperature, t_next in ((1.0, 0.5), (0.5, 0.5), (1.0, 0.1)):
        numbers = leaves(token_temperature=0.0, choice_temperature=temperature)
        known = np.asarray(many(Cosine(), numbers, logits, np.float32(t_next))) < 2
        assert (known.sum(1) == 1).all()
        p = 1 / (1 + np.exp(-gap / (temperature * (1 - t_next))))
        assert abs(known[:, 0].mean() - p) < 4 * np.sqrt(p * (1 - p) / n)


def test_choice_temperature_0_is_top_confidence_whatever_the_key():
    logits = np.random.default_rng(0).normal(size=(6, 3))
    outcomes = {tuple(one_step(logits, key, token_temperature=0.0, choice_temperature=0.0)) for key in range(20)}
    noisy = {tuple(one_step(logits, key, token_temperature=0.0, choice_temperature=3.0)) for key in range(20)}
    assert len(outcomes) == 1
    assert len(noisy) > 5
    log_p = special.log_softmax(logits, axis=-1).max(-1)
    known = np.array(outcomes.pop()) < 3
    assert log_p[known].min() > log_p[~known].max()


def exact_denoiser(joint):
    """log p(x_i | known tokens) for every position of a toy distribution over [v] * n."""
    n, v = joint.ndim, joint.shape[0]
    outcomes = np.array(list(itertools.product(range(v), repeat=n)))
    flat = jnp.asarray(joint.reshape(-1), jnp.float32)

    def logits(x):
        agrees = ((x == outcomes) | (x == v)).all(-1)  # x [n] against every outcome
        weight = jnp.where(agrees, flat, 0.0)
        onehot = jax.nn.one_hot(outcomes, v)  # [outcomes, n, v]
        return jnp.log(jnp.einsum("k,knv->nv", weight, onehot))

    return jax.vmap(lambda x: logits(x[:, 0])[:, None, :])


@pytest.fixture(scope="module")
def sampled():
    """Draws a toy distribution by the whole loop; returns the total variation from it."""
    joint = np.random.default_rng(3).dirichlet(np.full(27, 0.3)).reshape(3, 3, 3)
    policy = tiny.policy(chunk=3, num_bins=3)
    policy = dataclasses.replace(policy, spec=policy.spec._replace(action_low=(-1.0,), action_high=(1.0,)))
    denoise, n = exact_denoiser(joint), 100_000

    @functools.partial(jax.jit, static_argnums=0)
    def draw(order, key, steps, choice_temperature):
        sampler = bound(Linear(), {"choice_temperature": choice_temperature}, order)
        keys = jax.random.split(key, n)
        state, _ = policy.sample(lambda x, t: denoise(x), sampler, keys, policy.prior(keys), steps)
        return jnp.einsum("nha,h->n", state.tokens, jnp.array([9, 3, 1]))

    def total_variation(order, steps, choice_temperature=1.0):
        outcome = draw(order, jax.random.key(5), steps, jnp.float32(choice_temperature))
        share = np.bincount(np.asarray(outcome), minlength=27) / n
        return 0.5 * np.abs(share - joint.reshape(-1)).sum()

    return total_variation


@pytest.mark.parametrize(("order", "choice_temperature"), [(Random(), 1.0), (Confidence(), 1e6)])
def test_one_token_a_step_in_random_order_samples_the_data_distribution(sampled, order, choice_temperature):
    """With the exact denoiser: total variation <= .02 at 1e5 draws (.007 expected of as many draws from the data)."""
    assert sampled(order, 3, choice_temperature) <= 0.02


def test_all_tokens_in_one_step_sample_the_product_of_the_marginals(sampled):
    """The test above can tell: what one step gives is far from the data."""
    assert sampled(Random(), 1) > 0.2


@pytest.mark.parametrize("order", [Random(), Confidence()])
def test_in_random_order_no_entry_goes_first_more_often(order):
    """Two entries, p = .99 and .34 at most, one is committed: half of 1e4 times the first with random order."""
    logits = np.log(np.array([[[0.99, 0.005, 0.005]], [[0.34, 0.33, 0.33]]], np.float32))
    first = float((many(Linear(), leaves(), logits, np.float32(0.5), order=order)[:, 0] < 3).mean())
    assert (abs(first - 0.5) < 4 * 0.5 / 100) == isinstance(order, Random)


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_one_step_is_the_law_that_enumeration_gives(temperature):
    """Two entries, three tokens, one is committed: chi-square over the six outcomes, 1e5 draws, p > 1e-3.

    By the law of total probability over both draws; which of the two is committed is logistic in the difference of
    their log-probabilities over T (1 - t').
    """
    p, n, t_next = np.array([[0.6, 0.3, 0.1], [0.2, 0.35, 0.45]]), 100_000, 0.5
    law = np.zeros((2, 3))
    for x, y in itertools.product(range(3), repeat=2):
        first = special.expit(np.log(p[0, x] / p[1, y]) / (temperature * (1 - t_next)))
        law[0, x] += p[0, x] * p[1, y] * first
        law[1, y] += p[0, x] * p[1, y] * (1 - first)
    logits = np.log(p).astype(np.float32)[:, None]
    numbers = leaves(choice_temperature=temperature)
    tokens = np.asarray(many(Linear(), numbers, logits, np.float32(t_next), draws=n))
    assert ((tokens < 3).sum(1) == 1).all()
    counts = [np.bincount(tokens[:, i], minlength=4)[:3] for i in range(2)]
    assert stats.chisquare(np.ravel(counts), n * law.ravel()).pvalue > 1e-3
