"""Steps per second of every level in a folder, cut and uncut: `python -m tests.benchmarks.kinetix DIR`.

A step is one env step (two physics steps and an observation) under random actions, 256 environments side by side. Cut
and uncut are measured in turns, and each one's best turn counts, so that a busy machine disturbs both alike.
"""

import argparse
import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dd.env.kinetix import Kinetix

_BATCH = 256
_STEPS = 10
_TURNS = 4


def runner(env: Kinetix) -> Callable[[], int]:
    """A compiled program that plays `_STEPS` steps in every environment and goes on from there; returns the steps."""
    level, spec = env.load(), env.spec()
    low, high = jnp.array(spec.action_low), jnp.array(spec.action_high)

    def step(states, key):
        drawn, noise = jax.random.split(key)
        actions = jax.random.uniform(drawn, (_BATCH, low.size), minval=low, maxval=high)
        states, outcome = jax.vmap(env.step, (None, 0, 0, 0))(level, states, actions, jax.random.split(noise, _BATCH))
        return states, (outcome, jax.vmap(env.observe, (None, 0))(level, states).sum())

    run = jax.jit(lambda states, key: jax.lax.scan(step, states, jax.random.split(key, _STEPS)))
    state = [jax.vmap(env.reset, (None, 0))(level, jax.random.split(jax.random.key(0), _BATCH)), jax.random.key(1)]

    def play() -> int:
        state[1], key = jax.random.split(state[1])
        state[0], _ = jax.block_until_ready(run(state[0], key))
        return _BATCH * _STEPS

    play()
    return play


def rates(file: pathlib.Path) -> tuple[float, float]:
    """Env steps per second of a level, cut and uncut."""
    runners = [runner(Kinetix(level=str(file), cut=cut)) for cut in (True, False)]
    best = [0.0, 0.0]
    for _ in range(_TURNS):
        for i, play in enumerate(runners):
            start = time.perf_counter()
            best[i] = max(best[i], play() / (time.perf_counter() - start))
    return best[0], best[1]


def main() -> None:
    """Print a row for each level, and the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="a folder with level files (*.json)")
    files = sorted(parser.parse_args().folder.glob("*.json"))
    print(f"{'level':28} {'cut':>9} {'uncut':>9} {'ratio':>7}")
    measured = []
    for file in files:
        measured.append(rates(file))
        cut, uncut = measured[-1]
        print(f"{file.stem:28} {cut:9,.0f} {uncut:9,.0f} {cut / uncut:7.2f}", flush=True)
    cut, uncut = np.array(measured).T
    print(f"{'mean of the levels':28} {cut.mean():9,.0f} {uncut.mean():9,.0f} {(cut / uncut).mean():7.2f}")
    print(f"ratio of the mean speeds: {cut.mean() / uncut.mean():.2f}")


if __name__ == "__main__":
    main()
