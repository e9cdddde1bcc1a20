"""Differences between decodes with an interval that covers at three seeds.

Two arms run the same trained policies on the same numbered episodes, so the data are paired differences
D[seed, episode] in {-1, 0, 1} for each level (averaged over conditions first, where delays are pooled). The standard
error is that of resampling seeds, then episodes, each episode drawn with all its arms and delays. Its percentiles would
cover .74 to .87 at three seeds, so its variance is taken in closed form, without the bias, beside a t quantile:

    V_level = (MS_seed + max(0, MS_episode - MS_rest)) / (S E)   two-way random effects: seed, episode, rest
    V       = sum V_level / L^2                                  seeds drawn within levels; levels fixed
    df      = V^2 / sum (term^2 / df of the term)                Satterthwaite; for one level at least S - 1
    mean ± t(.975, df) sqrt(V)

MS_episode counts because all seeds meet the same episodes: what an episode deals to every seed does not average out.
V_level is never below (1 / (S E))^2: agreement of all outcomes is no more certain than one episode the other way.
Coverage at three seeds, 64 or 256 episodes, by simulation: .92 to .97 on one level and .95 to .97 on four, while both
mean rates lie in .13 to .84; less (.78 at worst) where most seeds sit at 0 or 1 and a rare one does not, since three
seeds seldom show the rare one.

`python -m analysis.stats SWEEP --baseline naive --method realtime --delay 3,4` prints a line per delay and one pooled.
"""

import argparse
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import norm
from scipy.stats import t as student

from analysis.results import ending_in_one_line, find_sweep, read_results
from dd.errors import UserError

CONDITION = (
    "delay",
    "execute_horizon",
    "num_flow_steps",
    "epoch",
)  # equal in both arms of a pair, as level and seed are


class Difference(NamedTuple):
    """A paired difference of solve rates, second arm minus first.

    Attributes:
        mean: over levels of the mean over seeds and episodes.
        low, high: 95 % interval; NaN with fewer than two seeds.
        seeds, levels, episodes: sample; episodes per seed and level (the fewest, where levels differ).
    """

    mean: float
    low: float
    high: float
    seeds: int
    levels: int
    episodes: int


def wilson(solved: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a solve rate over the episodes of one policy (rollout variance alone).

    Raises:
        ValueError: episodes < 1, or solved outside 0..episodes.
    """
    if not 0 <= solved <= episodes or episodes < 1:
        raise ValueError(f"{solved} solved of {episodes} episodes")
    z = norm.ppf((1 + confidence) / 2)
    rate, shrink = solved / episodes, 1 + z**2 / episodes
    middle = (rate + z**2 / (2 * episodes)) / shrink
    half = z / shrink * np.sqrt(rate * (1 - rate) / episodes + z**2 / (4 * episodes**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def variance_of_mean(
    difference: Float[np.ndarray, "... seed episode"],
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """V_level of this module's formula and its degrees of freedom, for the grand mean over the last two axes.

    Needs two seeds and two episodes.
    """
    S, E = difference.shape[-2:]
    grand = difference.mean((-2, -1), keepdims=True)
    seed = difference.mean(-1, keepdims=True) - grand
    episode = difference.mean(-2, keepdims=True) - grand
    ms_seed = E * (seed**2).sum((-2, -1)) / (S - 1)
    ms_episode = S * (episode**2).sum((-2, -1)) / (E - 1)
    ms_rest = ((difference - grand - seed - episode) ** 2).sum((-2, -1)) / ((S - 1) * (E - 1))
    shared = ms_episode > ms_rest
    found, least = ms_seed + np.where(shared, ms_episode - ms_rest, 0), 1 / (S * E)
    total = np.maximum(found, least)
    spread = ms_seed**2 / (S - 1) + np.where(shared, ms_episode**2 + ms_rest**2 / (S - 1), 0) / (E - 1)
    spread = np.where(found < least, total**2 / (S - 1), spread)
    # A difference of mean squares can leave fewer degrees of freedom than the seeds bring; these are never lost.
    return total / (S * E), np.maximum(S - 1, total**2 / spread)


def half_width(
    variance: Float[np.ndarray, "level ..."], freedom: Float[np.ndarray, "level ..."], confidence: float = 0.95
) -> Float[np.ndarray, "..."]:
    """t(df) sqrt(V) for the mean over the levels (first axis), from each level's `variance_of_mean`."""
    total = variance.sum(0)
    pooled = total**2 / (variance**2 / freedom).sum(0)
    return student.ppf((1 + confidence) / 2, pooled) * np.sqrt(total) / len(variance)


def paired_difference(levels: Sequence[Float[np.ndarray, "seed episode"]]) -> Difference:
    """The mean paired difference and its 95 % interval.

    Args:
        levels: per level D[seed, episode], second arm minus first; at least one level, as many seeds in each.
    """
    mean = float(np.mean([difference.mean() for difference in levels]))
    seeds, episodes = len(levels[0]), min(difference.shape[1] for difference in levels)
    half = float("nan")
    if seeds > 1 and episodes > 1:
        variance, freedom = (np.array(each) for each in zip(*map(variance_of_mean, levels), strict=True))
        half = float(half_width(variance, freedom))
    low, high = np.clip([mean - half, mean + half], -1, 1).tolist()
    return Difference(mean, low, high, seeds, len(levels), episodes)


def outcomes(store: pathlib.Path, key: str) -> Bool[np.ndarray, "episode"]:
    """Whether each numbered episode of an evaluation was solved.

    Raises:
        UserError: the store has no readable result of that key.
    """
    path = store / "eval" / key / "episodes.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["solved"].astype(bool)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such result; name the sweep's store with --store or DD_STORE") from error
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}): delete it and run the sweep again") from error


def compare(
    frame: pd.DataFrame, store: pathlib.Path, baseline: str, method: str, delays: Sequence[int] = ()
) -> list[tuple[str, Difference]]:
    """`method` minus `baseline` for each condition that both have, then all of them pooled.

    A seed counts in a line when both arms have it on every level of the sweep, under every condition of that line.

    Args:
        frame: as `read_results` gives it.
        store: where the evaluations' episodes lie.
        baseline, method: the arms, as the column method names them.
        delays: inference delays to look at; none: all.

    Returns:
        (label, difference) per line; the last is the pooled one, where there are several conditions.

    Raises:
        UserError: an arm or delay isn't in the frame, the arms have nothing in common, or episodes are missing.
    """
    for column, wanted in (("method", [baseline, method]), ("delay", list(delays))):
        if absent := [str(value) for value in wanted if value not in set(frame[column])]:
            there = ", ".join(map(str, frame[column].unique()))
            raise UserError(f"{column} {', '.join(absent)} is not in this sweep; it has {there}")
    chosen = frame[frame.delay.isin(delays)] if delays else frame
    index = ["level", "seed", *CONDITION]
    first, second = (chosen[chosen.method == name].set_index(index).key for name in (baseline, method))
    pairs = pd.concat({"first": first, "second": second}, axis=1).dropna().reset_index()
    if pairs.empty:
        raise UserError(f"{baseline} and {method} have no run in common: same level, seed, delay, s, flow steps, epoch")
    pairs["solved"] = [_pair(store, pair.first, pair.second) for pair in pairs.itertuples()]
    levels = sorted(frame.level.unique())
    groups = {
        _label(*condition, epochs=frame.epoch.nunique()): runs for condition, runs in pairs.groupby(list(CONDITION))
    }
    if len(groups) > 1:
        groups["pooled"] = pairs
    return [(label, _difference(label, runs, levels)) for label, runs in groups.items()]


def _label(delay: int, execute_horizon: int, num_flow_steps: int, epoch: str, *, epochs: int) -> str:
    which = f", epoch {epoch}" if epochs > 1 else ""
    return f"d = {delay}, s = {execute_horizon}, {num_flow_steps} steps{which}"


def _pair(store: pathlib.Path, first: str, second: str) -> Float[np.ndarray, "episode"]:
    """Second minus first, on the episodes that both ran (they are numbered alike)."""
    before, after = outcomes(store, first), outcomes(store, second)
    both = min(len(before), len(after))
    return after[:both].astype(float) - before[:both]


def _difference(label: str, runs: pd.DataFrame, levels: Sequence[str]) -> Difference:
    needed = len(levels) * len(runs[list(CONDITION)].drop_duplicates())
    whole = runs.groupby("seed").size()
    seeds = whole.index[whole == needed]
    if seeds.empty:
        raise UserError(f"{label}: no seed has both arms on all {len(levels)} levels; run the sweep again to fill it")
    tables = []
    for level in levels:
        arms = runs[runs.level == level].groupby("seed").solved
        fewest = min(len(solved) for seed in seeds for solved in arms.get_group(seed))
        tables.append(np.stack([np.mean([s[:fewest] for s in arms.get_group(seed)], axis=0) for seed in seeds]))
    return paired_difference(tables)


def _line(label: str, difference: Difference, seeds: int) -> str:
    mean, low, high = (f"{value:+.3f}".replace("0.", ".", 1) for value in difference[:3])
    interval = f"[{low}, {high}] (95 %)" if difference.low == difference.low else "(interval n/a: one seed)"
    count = f"{difference.seeds}" if difference.seeds == seeds else f"{difference.seeds} of {seeds}"
    sample = f"n = {count} seed(s) x {difference.levels} level(s) x {difference.episodes} episodes"
    return f"{label}: {mean} {interval}, {sample}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.stats", description="Paired difference of solve rates.")
    parser.add_argument("sweep", help="a sweep's folder, a results.csv, or latest")
    parser.add_argument("--baseline", default="naive", help="first arm (naive)")
    parser.add_argument("--method", default="realtime", help="second arm (realtime)")
    parser.add_argument("--delay", default="", help="inference delays, for instance 3,4 (all)")
    parser.add_argument("--store", default=os.environ.get("DD_STORE", "outputs/store"), help="the sweep's store")
    chosen = parser.parse_args(arguments)
    with ending_in_one_line():
        try:
            delays = [int(delay) for delay in chosen.delay.split(",") if delay]
        except ValueError:
            raise UserError(f"--delay {chosen.delay}: whole numbers are needed, for instance --delay 3,4") from None
        frame = read_results(find_sweep(chosen.sweep))
        lines = compare(frame, pathlib.Path(chosen.store), chosen.baseline, chosen.method, delays)
        print(f"{chosen.method} - {chosen.baseline}, solve rate, paired by seed and episode")
        for label, difference in lines:
            print(_line(label, difference, frame.seed.nunique()))


if __name__ == "__main__":
    main()
