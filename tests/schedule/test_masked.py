"""Corruption masks the right number of tokens, each alike; the loss sees these alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from dd.schedule.masked import Masked
from dd.schedule.ratio import Linear

H, A, V = 4, 3, 5
L = H * A


def tokens(key, batch):
    return np.random.default_rng(key).integers(0, V, (batch, H, A), dtype=np.int32)


@functools.partial(jax.jit, static_argnums=0)
def corrupt(process, key, x, t, prefix=0):
    kept = jnp.arange(H) < jnp.broadcast_to(prefix, len(x))[:, None]
    return process.corrupt(key, x, t, kept)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(process, key, x, logits, prefix=0):
    """Loss, metrics, and the noisy tokens that the network was asked about."""
    asked = []
    kept = jnp.arange(H) < jnp.broadcast_to(prefix, len(x))[:, None]
    loss, metrics = process.loss(key, x, kept, lambda noisy, t: asked.append((noisy, t)) or logits)
    ((noisy, t),) = asked
    assert t is None
    return loss, metrics, noisy


def logits_of(key, batch):
    return np.random.default_rng(key).normal(size=(batch, H, A, V)).astype(np.float32)


@pytest.mark.parametrize(
    ("process", "gamma"),
    [
        (Masked(num_bins=V), lambda t: np.cos(np.pi * t / 2)),
        (Masked(num_bins=V, train_mask_schedule=Linear()), lambda t: 1 - t),
    ],
)
def test_exactly_the_scheduled_number_of_tokens_is_masked_and_the_others_are_kept(process, gamma):
    """max(1, round(gamma(t) L)): all twelve at t = 0, one at t = 1."""
    t = np.concatenate([[0.0, 1.0], np.random.default_rng(0).random(2000)]).astype(np.float32)
    x = tokens(1, len(t))
    noisy, drawn = map(np.asarray, corrupt(process, jax.random.key(2), x, t))
    exact = gamma(t.astype(np.float64)) * L
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-4  # away from where rounding could go either way
    expected = np.maximum(1, np.round(exact))
    masked = (noisy == process.mask_token).sum((1, 2))
    assert (masked == expected)[clear].all()
    assert masked[:2].tolist() == [L, 1]
    assert (drawn == (noisy == process.mask_token)).all()
    assert ((noisy == x) == ~drawn).all()


@pytest.mark.parametrize("t", [0.3, 0.9, 1.0])
def test_every_position_is_masked_equally_often(t):
    """Chi-square over the 12 positions, 1e5 draws, p > 1e-3.

    Draws without replacement have 1 - m/L of the binomial's variance and L - 1 free positions.
    """
    n, process = 100_000, Masked(num_bins=V)
    _, drawn = corrupt(process, jax.random.key(3), tokens(1, n), np.full(n, t, np.float32))
    counts = np.asarray(drawn).sum(0).reshape(-1).astype(float)
    m = counts.sum() / n
    assert m == max(1, round(np.cos(np.pi * t / 2) * L))
    share = m / L
    variance = n * share * (1 - share) * L / (L - 1)
    statistic = ((counts - n * share) ** 2).sum() / variance
    assert stats.chi2.sf(statistic, L - 1) > 1e-3
    assert stats.chi2.cdf(statistic, L - 1) > 1e-3  # nor more even than chance


def test_a_share_of_the_drawn_tokens_is_shown_in_clear():
    """no_mask_token_prob = 0.3 of the drawn ones within 4 standard errors; the others stay as they are."""
    n, process = 20_000, Masked(num_bins=V, no_mask_token_prob=0.3)
    x = tokens(1, n)
    noisy, drawn = map(np.asarray, corrupt(process, jax.random.key(4), x, np.full(n, 0.5, np.float32)))
    total = n * round(np.cos(np.pi / 4) * L)
    assert int(drawn.sum()) == total
    shown = int((drawn & (noisy == x)).sum())
    assert abs(shown / total - 0.3) < 4 * np.sqrt(0.21 / total)
    assert int((noisy == process.mask_token).sum()) == total - shown
    assert not (~drawn & (noisy != x)).any()


def test_the_loss_is_the_mean_cross_entropy_of_the_drawn_tokens_alone():
    """Shown ones included; logits elsewhere may be anything."""
    process = Masked(num_bins=V, no_mask_token_prob=0.5)
    x, key = tokens(1, 6), jax.random.key(5)
    logits = logits_of(6, 6)
    loss, metrics, asked = loss_of(process, key, x, logits)
    time_key, corrupt_key = jax.random.split(key)
    noisy, drawn = map(np.asarray, corrupt(process, corrupt_key, x, jax.random.uniform(time_key, (6,))))
    assert (noisy == asked).all()
    log_p = special.log_softmax(logits.astype(np.float64), axis=-1)
    picked = np.take_along_axis(log_p, x[..., None], -1)[..., 0][drawn]
    assert float(loss) == pytest.approx(-picked.mean(), rel=1e-5)
    right = (logits.argmax(-1) == x)[drawn]
    assert metrics["token_accuracy"].tolist() == [right.sum(), drawn.sum()]
    assert metrics["masked_fraction"].tolist() == [drawn.sum(), 6 * L]

    elsewhere = np.where(drawn[..., None], logits, 77 * np.arange(V, dtype=np.float32))
    assert float(loss_of(process, key, x, elsewhere)[0]) == pytest.approx(float(loss), rel=1e-6)


def test_metrics_of_batches_pool_to_the_metrics_of_the_whole():
    """Sums and counts add; the means of the batches would not (their counts differ)."""
    process, keys = Masked(num_bins=V), jax.random.split(jax.random.key(7), 3)
    results = [loss_of(process, key, tokens(i, 4), logits_of(8, 4)) for i, key in enumerate(keys)]
    pooled = {name: sum(np.asarray(metrics[name]) for _, metrics, _ in results) for name in results[0][1]}
    losses = np.array([float(loss) for loss, _, _ in results])
    counts = np.array([float(metrics["loss"][1]) for _, metrics, _ in results])
    assert len(set(counts)) > 1
    assert float(pooled["loss"][0] / pooled["loss"][1]) == pytest.approx(
        (losses * counts).sum() / counts.sum(), rel=1e-6
    )
    assert float(pooled["masked_fraction"][0]) == counts.sum()


def test_times_of_the_loss_are_uniform():
    """Masked fraction of a large batch: the mean of max(1, round(gamma(t) L)) / L over t, within 4 standard errors."""
    process, n = Masked(num_bins=V), 20_000
    _, metrics, _ = loss_of(process, jax.random.key(9), tokens(1, n), np.zeros((n, H, A, V), np.float32))
    grid = np.maximum(1, np.round(np.cos(np.pi * (np.arange(1e5) + 0.5) / 2e5) * L)) / L
    share = float(metrics["masked_fraction"][0] / metrics["masked_fraction"][1])
    assert abs(share - grid.mean()) < 4 * grid.std() / np.sqrt(n)


def test_imposed_tokens_are_known_and_not_counted():
    process = Masked(num_bins=V)
    state = process.prior(jax.random.key(0), H, A)
    assert not state.known.any()
    x = jnp.asarray(tokens(1, 1)[0])
    imposed = process.impose(state, x, jnp.arange(H) < 2)
    assert imposed.known.tolist() == [True, True, False, False]
    assert (imposed.tokens[:2] == x[:2]).all()
    assert (imposed.tokens[2:] == process.mask_token).all()


@pytest.mark.parametrize("prefix", [1, 3])
def test_a_given_prefix_is_never_masked_and_the_rest_is_masked_as_a_shorter_chunk_is(prefix):
    """max(1, round(gamma(t) (H - d) A)) of the (H - d) A others, each alike."""
    n, process = 20_000, Masked(num_bins=V)
    t = np.random.default_rng(0).random(n).astype(np.float32)
    noisy, drawn = map(np.asarray, corrupt(process, jax.random.key(2), tokens(1, n), t, prefix))
    assert not drawn[:, :prefix].any()
    assert (noisy[:, :prefix] < V).all()
    exact = np.cos(np.pi * t.astype(np.float64) / 2) * (H - prefix) * A
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-4
    assert (drawn.sum((1, 2)) == np.maximum(1, np.round(exact)))[clear].all()
    share = drawn[:, prefix:].mean(0)
    assert share == pytest.approx(share.mean(), abs=4 * 0.5 / np.sqrt(n))


def test_a_given_prefix_is_not_in_the_loss_nor_in_the_masked_fraction():
    """Whatever the logits say there; prefixes of lengths of their own."""
    process, x, key = Masked(num_bins=V), tokens(1, 6), jax.random.key(5)
    prefix, logits = np.array([0, 1, 2, 3, 0, 2]), logits_of(6, 6)
    loss, metrics, _ = loss_of(process, key, x, logits, prefix)
    there = (np.arange(H) < prefix[:, None])[..., None, None]
    elsewhere = loss_of(process, key, x, np.where(there, 50.0 * logits, logits).astype(np.float32), prefix)
    assert float(elsewhere[0]) == pytest.approx(float(loss), rel=1e-6)
    assert float(metrics["masked_fraction"][1]) == (H - prefix).sum() * A


def test_the_auxiliary_loss_is_the_distance_from_the_expected_bin_centre():
    """By hand: |sum_v p_v c_v - c_x| over the drawn tokens, centres of v bins over [-1, 1]; weight 0 leaves it out."""
    process, x, key, logits = Masked(num_bins=V, auxiliary_weight=0.1), tokens(1, 6), jax.random.key(5), logits_of(6, 6)
    loss, metrics, asked = loss_of(process, key, x, logits)
    drawn = np.asarray(asked) == process.mask_token
    centres = (2 * np.arange(V) + 1) / V - 1
    apart = np.abs(special.softmax(logits.astype(np.float64), axis=-1) @ centres - centres[x])[drawn]
    plain, without, _ = loss_of(Masked(num_bins=V), key, x, logits)
    assert float(loss) == pytest.approx(float(plain) + 0.1 * apart.mean(), rel=1e-5)
    assert metrics["auxiliary"].tolist() == pytest.approx([apart.sum(), drawn.sum()], rel=1e-5)
    assert "auxiliary" not in without
