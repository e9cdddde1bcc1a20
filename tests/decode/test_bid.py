"""Best of n: which chunk is taken, by hand, and the identities."""

import jax
import numpy as np
import pytest

from dd.decode.bid import Bid
from dd.decode.naive import Naive
from dd.decode.weights import Exp
from dd.errors import UserError
from tests import tiny

N, BATCH = 6, 16


@pytest.fixture(scope="module")
def sampled(flow, prefix):
    """What the method chooses among, [n, b, h, a], for the strong and the weak policy."""
    obs, keys = jax.random.normal(jax.random.key(1), (BATCH, 4)), jax.random.split(jax.random.key(2), BATCH)
    sample = jax.jit(lambda params: Bid(n_samples=N)._samples(flow, flow.process.sampler(), params, keys, obs)[0])
    return [np.asarray(sample(tiny.params(flow, seed))) for seed in (0, 1)]


def close(expected):
    """Within 1e-5 of the largest number: rounding takes small and large numbers of a chunk equally far."""
    return pytest.approx(expected, rel=0, abs=1e-5 * float(np.abs(expected).max()))


def norm(a, b):
    return np.sqrt(((a - b) ** 2).sum(-1))


@pytest.mark.parametrize(("d", "s"), [(0, 1), (2, 3), (4, 4)])
def test_the_chunk_taken_is_the_most_coherent_one(flow_chunks, sampled, prefix, d, s):
    """sum_h w_h |x_h - y_h| with norms, not their squares, over each of the samples."""
    weights = np.asarray(Exp()(d, 8 - s, 8))
    loss = (weights * norm(sampled[0], prefix)).sum(-1)
    expected = sampled[0][loss.argmin(0), np.arange(BATCH)]
    assert flow_chunks(Bid(n_samples=N), d, s) == close(expected)
    assert len(set(loss.argmin(0))) > 2


def test_forward_contrast_by_hand(flow_chunks, sampled, prefix):
    d, s, k = 1, 2, 2
    weights = np.asarray(Exp()(d, 8 - s, 8))
    coherence = [(weights * norm(each, prefix)).sum(-1) for each in sampled]
    expected = []
    for b in range(BATCH):
        near, far = (
            each[np.argsort(loss[:, b], kind="stable")[:k], b] for each, loss in zip(sampled, coherence, strict=True)
        )
        strong = sampled[0][:, b]
        contrast = [sum(norm(x, p).sum() for p in near) - sum(norm(x, q).sum() for q in far) for x in strong]
        expected.append(strong[np.argmin(coherence[0][:, b] + np.array(contrast) / N)])
    found = flow_chunks(Bid(n_samples=N, weak=3, bid_k=k), d, s)
    assert found == close(np.array(expected))
    assert np.abs(found - flow_chunks(Bid(n_samples=N), d, s)).max() > 0.1


@pytest.mark.parametrize("which", ["chunks", "uniform_chunks", "flow_chunks"])
def test_one_sample_is_naive(request, which):
    run = request.getfixturevalue(which)
    assert (run(Bid(n_samples=1), 2, 2) == run(Naive(), 2, 2)).all()


def test_it_works_on_tokens_and_comes_nearer_to_the_plan(chunks, prefix):
    apart = [np.abs(chunks(Bid(n_samples=n), 1, 1) - prefix)[:, :3].mean() for n in (1, 4, 16)]
    assert apart[2] < apart[1] < apart[0]


def test_every_sample_is_counted_the_weak_ones_too(flow_chunks):
    assert (flow_chunks(Bid(n_samples=N), 1, 1, whole=True).evaluations == 5 * N).all()
    assert (flow_chunks(Bid(n_samples=N, weak=3, bid_k=1), 1, 1, whole=True).evaluations == 10 * N).all()


def test_a_sample_does_not_depend_on_how_many_there_are(flow, sampled):
    obs, keys = jax.random.normal(jax.random.key(1), (BATCH, 4)), jax.random.split(jax.random.key(2), BATCH)
    params, sampler = tiny.params(flow), flow.process.sampler()
    fewer = jax.jit(lambda: Bid(n_samples=3)._samples(flow, sampler, params, keys, obs)[0])()
    assert np.asarray(fewer) == close(sampled[0][:3])


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"weak": 3}, "weak=3: .* needs decode.bid_k too"),
        ({"bid_k": 3}, "bid_k=3: .* needs decode.weak too"),
        ({"weak": 1, "bid_k": 9, "n_samples": 4}, "bid_k=9: must be at most n_samples=4"),
    ],
)
def test_half_a_forward_contrast_is_refused(values, rule):
    with pytest.raises(UserError, match=rule):
        Bid(**values)
