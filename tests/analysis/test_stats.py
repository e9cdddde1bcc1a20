"""Intervals: against scipy and hand computation, by simulated coverage, and through a stored sweep."""

import itertools

import numpy as np
import pytest
from scipy import stats as reference

from analysis import stats
from analysis.results import read_results
from analysis.stats import compare, half_width, paired_difference, variance_of_mean, wilson
from dd.errors import UserError
from tests.analysis.sweeps import stored_sweep


def test_wilson_is_scipys():
    for solved, episodes in ((0, 64), (1, 64), (33, 64), (64, 64), (1999, 2048)):
        expected = reference.binomtest(solved, episodes).proportion_ci(0.95, method="wilson")
        assert wilson(solved, episodes) == pytest.approx(tuple(expected), abs=1e-12)
    with pytest.raises(ValueError, match="65 solved of 64"):
        wilson(65, 64)


def test_without_shared_episode_noise_it_is_the_t_interval_over_seed_means():
    """D = seed effect + a pattern with equal episode means: MS_episode = 0; V = var(seed means, ddof 1) / S, df 2."""
    pattern = np.array([[1, -1, 0], [0, 1, -1], [-1, 0, 1]]) / 2
    difference = np.array([[0.0], [0.1], [0.5]]) + pattern
    means = difference.mean(1)
    expected = reference.t.interval(0.95, 2, means.mean(), reference.sem(means))
    found = paired_difference([difference])
    assert (found.low, found.high) == pytest.approx(expected)
    assert found[3:] == (3, 1, 3)


def test_two_levels_by_hand():
    """Seed effects 0, .2 and 0, .4, constant episodes: V = .01, .04; of the mean .0125; df = 5^2 / (1 + 16) = 25/17."""
    levels = [np.tile([[0.0], [seed]], (1, 8)) for seed in (0.2, 0.4)]
    found = paired_difference(levels)
    assert found.mean == pytest.approx(0.15)
    assert found.high - found.mean == pytest.approx(reference.t.ppf(0.975, 25 / 17) * np.sqrt(0.0125))


def test_the_variance_is_unbiased_for_effects_of_seed_and_shared_episodes():
    """Var of the grand mean: .2^2/3 + .5^2/16 + 1/48 = .0498; the estimate meets it but for the bias of the max."""
    rng = np.random.default_rng(0)
    draws = (
        rng.normal(size=(40_000, 3, 1)) * 0.2
        + rng.normal(size=(40_000, 1, 16)) * 0.5
        + rng.normal(size=(40_000, 3, 16))
    )
    variance, freedom = variance_of_mean(draws)
    truth = 0.04 / 3 + 0.25 / 16 + 1 / 48
    assert draws.mean((1, 2)).var() == pytest.approx(truth, rel=0.02)
    assert truth * 0.99 < variance.mean() < truth * 1.05
    assert freedom.min() >= 2


def test_it_is_the_variance_of_resampling_seeds_then_episodes_without_its_bias():
    """Drawing seeds, then episodes of each, gives ((S-1)/S s^2 + w/E)/S on average: s^2 of the seed means, w within."""
    rng = np.random.default_rng(1)
    difference = rng.normal(size=(4, 1)) * 0.3 + rng.choice([-1.0, 0.0, 1.0], size=(4, 32))
    difference -= (
        difference.mean(0) - difference.mean()
    )  # no shared episode effect: the nested scheme is then the right one
    draws = np.empty(20_000)
    for index in range(len(draws)):
        seeds = rng.integers(4, size=4)
        draws[index] = difference[seeds[:, None], rng.integers(32, size=(4, 32))].mean()
    within = difference.var(1).mean() / (4 * 32)
    assert variance_of_mean(difference)[0] == pytest.approx((draws.var() - within) * 4 / 3, rel=0.05)


def simulated(rng, draws, levels, spread, shared):
    """D of two arms at three seeds x 64 shared episodes, probit in seed, episode and own noise; and its true mean."""

    def effect(size, *shape):
        return size * rng.normal(size=(levels, draws, *shape))

    seed, episode = effect(spread, 3, 1), effect(shared, 1, 64)
    before = seed + episode + effect(1, 3, 64) > -0.5
    after = seed + effect(spread, 3, 1) + episode + effect(shared, 1, 64) + effect(1, 3, 64) > -1
    truth = reference.norm.cdf(1 / np.sqrt(1 + 2 * spread**2 + 2 * shared**2))
    truth -= reference.norm.cdf(0.5 / np.sqrt(1 + spread**2 + shared**2))
    return after.astype(float) - before, truth


@pytest.mark.parametrize("levels", [1, 4])
@pytest.mark.parametrize(("spread", "shared"), [(0.0, 0.0), (0.0, 0.5), (0.3, 0.0), (0.3, 0.5), (0.6, 0.5)])
def test_the_interval_covers_at_three_seeds(levels, spread, shared):
    """Nominal .95 over 2,000 sweeps: within .93 and .975, three standard errors of the simulation being .015."""
    rng = np.random.default_rng([levels, int(10 * spread), int(10 * shared)])
    difference, truth = simulated(rng, 2_000, levels, spread, shared)
    variance, freedom = variance_of_mean(difference)
    error = np.abs(difference.mean((0, 2, 3)) - truth)
    assert 0.93 <= (error <= half_width(variance, freedom)).mean() <= 0.975


def test_a_percentile_bootstrap_would_not_cover():
    """The reason for the formula: percentiles over the 27 ordered draws of three seeds cover below .85."""
    difference, truth = simulated(np.random.default_rng(5), 2_000, 1, 0.6, 0.0)
    means = difference[0].mean(-1)
    resampled = np.stack([means[:, list(seeds)].mean(1) for seeds in itertools.product(range(3), repeat=3)], axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=1)
    assert ((low <= truth) & (truth <= high)).mean() < 0.85


def test_agreement_of_all_outcomes_is_not_certainty():
    found = paired_difference([np.ones((3, 64))])
    assert found.mean == found.high == 1
    assert 1 - found.low == pytest.approx(reference.t.ppf(0.975, 2) / 192)


@pytest.fixture
def sweep(tmp_path):
    """Two levels, three seeds, d = 3 and 4; realtime solves what naive solves and, at d = 3, more of the rest."""
    rng = np.random.default_rng(0)
    runs = {}
    for delay, seed, level in itertools.product((3, 4), (0, 1, 2), ("l/a", "l/b")):
        luck = rng.random(64)
        runs["naive", delay, seed, level] = luck < 0.4
        runs["realtime", delay, seed, level] = luck < (0.7 if delay == 3 else 0.4)
    return runs


def test_a_stored_sweep_is_paired_by_level_seed_and_episode(tmp_path, sweep):
    store = stored_sweep(tmp_path, sweep)
    lines = dict(compare(read_results(tmp_path), store, "naive", "realtime", [3, 4]))
    assert list(lines) == ["d = 3, s = 3, 5 steps", "d = 4, s = 4, 5 steps", "pooled"]

    def mean(method, delay):
        return np.mean([solved for (m, d, _, _), solved in sweep.items() if (m, d) == (method, delay)])

    first, second, pooled = lines.values()
    assert first.mean == pytest.approx(mean("realtime", 3) - mean("naive", 3))
    assert first[3:] == (3, 2, 64)
    assert second.mean == 0
    assert second.high < 0.02  # every pair agrees: the same outcomes unpaired would leave about ± .07
    assert pooled.mean == pytest.approx((first.mean + second.mean) / 2)
    assert pooled.low > 0


def test_episodes_that_only_one_arm_ran_are_left_out(tmp_path, sweep):
    longer = {run: np.concatenate([solved, solved]) if run[0] == "naive" else solved for run, solved in sweep.items()}
    lines = compare(*_read(tmp_path / "one", longer), "naive", "realtime")
    assert lines == compare(*_read(tmp_path / "two", sweep), "naive", "realtime")


def _read(folder, runs):
    store = stored_sweep(folder, runs)
    return read_results(folder), store


def test_incomplete_seeds_are_left_out_and_said(tmp_path, sweep, capsys):
    store = stored_sweep(tmp_path, {run: solved for run, solved in sweep.items() if run != ("realtime", 3, 1, "l/b")})
    stats.main([str(tmp_path), "--delay", "3", "--store", str(store)])
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2
    assert "n = 2 of 3 seed(s) x 2 level(s) x 64 episodes" in out[1]


def test_one_seed_has_no_interval(tmp_path, sweep, capsys):
    store = stored_sweep(tmp_path, {run: solved for run, solved in sweep.items() if run[2] == 0})
    stats.main([str(tmp_path), "--delay", "3", "--store", str(store)])
    assert "(interval n/a: one seed)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "bid"], "method bid is not in this sweep; it has naive, realtime"),
        (["--delay", "7"], "delay 7 is not in this sweep; it has 3, 4"),
        (["--delay", "x"], "--delay x: whole numbers are needed"),
        (["--store", "elsewhere"], "no such result; name the sweep's store"),
    ],
)
def test_wrong_requests_end_with_one_line_and_2(tmp_path, sweep, capsys, arguments, message):
    store = stored_sweep(tmp_path, sweep)
    with pytest.raises(SystemExit) as end:
        stats.main([str(tmp_path), "--store", str(store), *arguments])
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_damaged_episodes_are_named(tmp_path, sweep):
    store = stored_sweep(tmp_path, sweep)
    path = next(store.glob("eval/*/episodes.npz"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=f"{path.parent.name}/episodes.npz is damaged"):
        compare(read_results(tmp_path), store, "naive", "realtime")
