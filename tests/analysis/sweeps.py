"""Sweeps made up for these tests: rows, and the store their episodes lie in."""

import pathlib

import numpy as np

from analysis.results import write_results


def row(**given):
    """One run's row; its key follows from what tells it apart."""
    run = {
        "returned_episode_lengths": 100.0,
        "returned_episode_returns": 0.5,
        "returned_episode_solved": 0.5,
        "delay": 0,
        "method": "naive",
        "level": "l/one",
        "seed": 0,
        "num_flow_steps": 5,
        "num_evals": 64,
        "epoch": "last",
    } | given
    run.setdefault("execute_horizon", max(1, run["delay"]))
    name = "-".join(
        str(run[part]) for part in ("level", "method", "delay", "execute_horizon", "num_flow_steps", "epoch", "seed")
    )
    return {**run, "key": given.get("key", name.replace("/", "_"))}


def stored_sweep(folder: pathlib.Path, outcomes: dict[tuple[str, int, int, str], np.ndarray]) -> pathlib.Path:
    """Write results.csv and the episodes of {(method, delay, seed, level): solved [n]} and return the store's path."""
    rows = []
    for (method, delay, seed, level), solved in outcomes.items():
        rows.append(row(method=method, delay=delay, seed=seed, level=level, returned_episode_solved=solved.mean()))
        place = folder / "store" / "eval" / rows[-1]["key"]
        place.mkdir(parents=True)
        length, return_ = np.full(len(solved), 100, np.int32), np.asarray(solved, np.float32)
        np.savez(place / "episodes.npz", solved=solved, length=length, return_=return_)
    write_results(rows, folder)
    return folder / "store"
