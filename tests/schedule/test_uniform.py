"""Uniform corruption: its marginals, one reverse step against enumeration, and what the whole loop samples from."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from dd import fields
from dd.schedule.uniform import Reversal, Uniform, UniformState, posterior
from tests import tiny

H, A, V = 4, 3, 5


@functools.partial(jax.jit, static_argnums=0)
def corrupt(process, key, x, t):
    return process.corrupt(key, x, t)


def test_a_token_keeps_its_bin_with_probability_t_and_is_else_any_bin_alike():
    """Counts over bins against t [i = x] + (1 - t) / v: chi-square at four times, 1e5 draws each, p > 1e-3."""
    n, x = 100_000, 2
    for t in (0.0, 0.3, 0.8):
        noisy = corrupt(Uniform(num_bins=V), jax.random.key(1), np.full((n, 1, 1), x), np.full((n, 1), t, np.float32))
        expected = t * (np.arange(V) == x) + (1 - t) / V
        counts = np.bincount(np.asarray(noisy).reshape(-1), minlength=V)
        assert stats.chisquare(counts, n * expected).pvalue > 1e-3
    same = corrupt(Uniform(num_bins=V), jax.random.key(2), np.full((n, 1, 1), x), np.ones((n, 1), np.float32))
    assert (same == x).all()


def test_times_of_the_loss_are_uniform_and_told_to_the_network():
    """KS against U(0, 1) over 2e4 samples; a given prefix is at time 1, as it was, and not in the loss."""
    n, process = 20_000, Uniform(num_bins=V)
    x = np.random.default_rng(0).integers(0, V, (n, H, A), dtype=np.int32)
    prefix = np.random.default_rng(1).integers(0, H, n)
    kept = np.arange(H) < prefix[:, None]
    asked = []

    def denoise(noisy, t):
        asked.append((noisy, t))
        return jnp.where(kept[..., None, None], 77.0, jnp.zeros((n, H, A, V)).at[..., 0].set(1.0))

    loss, metrics = process.loss(jax.random.key(3), jnp.asarray(x), jnp.asarray(kept), denoise)
    ((noisy, t),) = asked
    noisy, t = np.asarray(noisy), np.asarray(t)
    assert (t[kept] == 1).all()
    assert (noisy == x)[kept].all()
    last = t[:, -1]
    assert (t == np.where(kept, 1, last[:, None])).all()
    assert stats.kstest(last, "uniform").pvalue > 1e-3
    log_p = special.log_softmax(np.eye(V)[0])
    assert float(loss) == pytest.approx(-log_p[x][~kept].mean(), rel=1e-5)
    assert float(metrics["loss"][1]) == (~kept).sum() * A
    replaced = (noisy != x)[~kept].mean()
    assert float(metrics["replaced_fraction"][0] / metrics["replaced_fraction"][1]) == pytest.approx(replaced, rel=1e-5)


def joint_distribution(v=3):
    """Over two tokens of three bins, far from a product."""
    return np.random.default_rng(3).dirichlet(np.full(v * v, 0.4)).reshape(v, v)


def kernel(keep, v=3):
    """[to, from] of one token that keeps its bin with this probability."""
    return keep * np.eye(v) + (1 - keep) / v


def clean_given(joint, t):
    """p(clean token i = k | both noisy tokens), [x0, x1, i, k], by enumeration over the clean pairs."""
    q = kernel(t)
    weight = np.einsum("ai,bj,ij->abij", q, q, joint)
    both = weight / weight.sum((2, 3), keepdims=True)
    return np.stack([both.sum(3), both.sum(2)], axis=2)


@pytest.mark.parametrize(("t", "t_next"), [(0.0, 0.5), (0.3, 0.6), (0.6, 1.0)])
def test_one_step_is_bayes_rule_by_enumeration(t, t_next):
    """For every pair of noisy tokens: sum over clean pairs and all bins at t_next of the joint law of the three."""
    joint = joint_distribution()
    p = clean_given(joint, t)
    forward, further = kernel(t_next), kernel(t / t_next)
    for x in itertools.product(range(3), repeat=2):
        for i in range(2):
            expected = np.zeros(3)
            for clean in range(3):
                weight = further[x[i], :] * forward[:, clean]
                expected += p[x[0], x[1], i, clean] * weight / weight.sum()
            found = posterior(
                jnp.array([[x[i]]]), jnp.asarray(p[x[0], x[1], i])[None, None], jnp.float32(t), jnp.float32(t_next)
            )
            assert np.asarray(found)[0, 0] == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def sampled():
    """Draws the toy by the whole loop with the exact denoiser; returns the outcomes' shares."""
    joint, n = joint_distribution(), 100_000
    policy = tiny.policy(chunk=2, num_bins=3)
    spec = policy.spec._replace(action_low=(-1.0,), action_high=(1.0,))
    policy = dataclasses.replace(policy, spec=spec, process=Uniform(num_bins=3))
    flat = jnp.asarray(joint, jnp.float32)

    def denoise(x, t):
        def one(x, t):
            q = t * jnp.eye(3) + (1 - t) / 3
            weight = flat * q[x[0, 0]][:, None] * q[x[1, 0]][None, :]
            return jnp.log(jnp.stack([weight.sum(1), weight.sum(0)]) / weight.sum())[:, None, :]

        return jax.vmap(one)(x, jnp.broadcast_to(t, x.shape[:2])[:, 0])

    @jax.jit
    def draw(key, steps, corrections):
        sampler = fields.bind(Reversal(), dict(fields.leaves(Reversal())) | {"corrector_steps": corrections})
        keys = jax.random.split(key, n)
        state, asked = policy.sample(denoise, sampler, keys, policy.prior(keys), steps)
        return 3 * state.tokens[:, 0, 0] + state.tokens[:, 1, 0], asked

    def shares(steps, corrections=0):
        outcome, asked = draw(jax.random.key(5), steps, corrections)
        assert (np.asarray(asked) == steps * (1 + corrections)).all()
        return np.bincount(np.asarray(outcome), minlength=9) / n

    return shares


def denoised(joint, law, t, t_next):
    """The law after a step: both tokens move independently of each other, given both."""
    p, following = clean_given(joint, t), np.zeros((3, 3))
    forward, further = kernel(t_next), kernel(t / t_next)
    for x in itertools.product(range(3), repeat=2):
        moves = []
        for i in range(2):
            weight = further[x[i]][:, None] * forward
            moves.append((weight / weight.sum(0)) @ p[x[0], x[1], i])
        following += law[x] * np.outer(*moves)
    return following


def by_enumeration(joint, steps, corrections=0, size=0.25):
    """The exact law of the sampler's outcome."""
    law = np.full((3, 3), 1 / 9)
    for k in range(steps):
        t, t_next = k / steps, (k + 1) / steps
        law = denoised(joint, law, t, t_next)
        since = t_next - size * (t_next - t)
        noise = kernel(since / t_next)
        for _ in range(corrections):
            law = denoised(joint, noise @ law @ noise.T, since, t_next)
    return law


def total_variation(a, b):
    return 0.5 * np.abs(a.reshape(-1) - b.reshape(-1)).sum()


@pytest.mark.parametrize(("steps", "corrections"), [(1, 0), (2, 0), (5, 0), (8, 0), (16, 0), (64, 0), (1, 2), (4, 3)])
def test_the_loop_samples_the_law_that_enumeration_gives(sampled, steps, corrections):
    """Within .01 in total variation at 1e5 draws (.003 expected of as many draws from that law)."""
    law = by_enumeration(joint_distribution(), steps, corrections)
    assert total_variation(sampled(steps, corrections), law) <= 0.01


def test_the_error_falls_with_the_number_of_steps_at_first_order():
    """Total variation of the exact law from the data: slope of log error over log steps between -1.3 and -.8."""
    joint, steps = joint_distribution(), np.array([8, 16, 32, 64])
    errors = [total_variation(by_enumeration(joint, n), joint) for n in steps]
    assert errors[0] > 0.005
    assert -1.3 < np.polyfit(np.log(steps), np.log(errors), 1)[0] < -0.8


def test_correctors_bring_few_steps_nearer_to_the_data(sampled):
    """Four steps: .135 from the data without corrections, .045 with six after each; eight plain steps .069."""
    joint = joint_distribution()
    plain, corrected = (total_variation(sampled(4, corrections), joint) for corrections in (0, 6))
    assert corrected < 0.5 * plain


def test_imposed_tokens_never_change_corrections_included():
    x = jnp.array([[1], [2]])
    process, sampler = Uniform(num_bins=3), Reversal()
    state = process.impose(process.prior(jax.random.key(0), 2, 1), x, jnp.array([True, False]))
    times = jnp.float32(0.4), jnp.float32(0.7)
    for i in range(20):
        state = sampler.step(process, jax.random.key(i), state, jnp.zeros((2, 1, 3)), *times)
        state = sampler.back(process, jax.random.key(100 + i), state, *times)
        assert int(state.tokens[0, 0]) == 1
    assert isinstance(state, UniformState)


def test_at_temperature_0_the_last_step_takes_the_likeliest_token():
    sampler, logits = Reversal(token_temperature=0.0), jnp.array([[[0.0, 0.5, 0.4]]])
    process, state = Uniform(num_bins=3), UniformState(jnp.zeros((1, 1), jnp.int32), jnp.zeros(1, bool))
    last = jax.jit(lambda key: sampler.step(process, key, state, logits, jnp.float32(0.8), jnp.float32(1.0)).tokens)
    assert {int(last(jax.random.key(i))[0, 0]) for i in range(30)} == {1}
