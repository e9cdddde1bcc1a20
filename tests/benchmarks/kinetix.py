"""Steps per second of every level in a folder, against kinetix itself: `python -m tests.benchmarks.kinetix DIR`.

A step is one env step (two physics steps and an observation) under random actions, 256 environments side by side. The
plain form is kinetix-env's own environment, on the uncut level. Beside it dd's environment, uncut and cut. The three
are measured in turns, and each one's best turn counts, so that a busy machine disturbs all alike.
"""

import argparse
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dd.env.kinetix import Kinetix
from tests.benchmarks.timing import in_turns

_BATCH = 256
_STEPS = 10
_TURNS = 4
_MEAN, _UNICYCLE = 2.0, 4.0


def runner(start: Any, step: Callable[[Any, Any, Any], tuple[Any, Any]], low: Any, high: Any) -> Callable[[], Any]:
    """A compiled program that plays `_STEPS` steps in every environment and goes on from there."""

    def play(states, key):
        def one(states, key):
            drawn, noise = jax.random.split(key)
            actions = jax.random.uniform(drawn, (_BATCH, low.size), minval=low, maxval=high)
            return jax.vmap(step)(states, actions, jax.random.split(noise, _BATCH))

        return jax.lax.scan(one, states, jax.random.split(key, _STEPS))

    state = [jax.tree.map(lambda x: jnp.broadcast_to(x, (_BATCH, *jnp.shape(x))), start), jax.random.key(1)]
    compiled = jax.jit(play).lower(*state).compile()

    def turn() -> Any:
        state[1], key = jax.random.split(state[1])
        state[0], outcomes = compiled(state[0], key)
        return state[0], outcomes

    return turn


def ours(env: Kinetix) -> Callable[[], Any]:
    """dd's environment."""
    level, spec = env.load(), env.spec()

    def step(state, action, key):
        state, outcome = env.step(level, state, action, key)
        return state, (outcome, env.observe(level, state).sum())

    return runner(env.reset(level, jax.random.key(0)), step, jnp.array(spec.action_low), jnp.array(spec.action_high))


def theirs(file: pathlib.Path) -> Callable[[], Any]:
    """kinetix-env's own environment, without resets; noise and range of the actions as ours."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kinetix.environment import ActionType, EnvParams, ObservationType, make_kinetix_env
        from kinetix.util.saving import load_from_json_file

        state, static, _ = load_from_json_file(str(file))
        own = make_kinetix_env(
            *(ActionType.CONTINUOUS, ObservationType.SYMBOLIC_FLAT, None, EnvParams()),
            static_env_params=static,
            auto_reset=False,
        )

    def step(state, action, key):
        noisy = action + 0.1 * jax.random.normal(key, action.shape)
        obs, state, reward, done, info = own.step_env(None, state, noisy, EnvParams())
        return state, (reward, done, info["GoalR"], obs.sum())

    spec = Kinetix(level=str(file)).spec()
    return runner(state, step, jnp.array(spec.action_low), jnp.array(spec.action_high))


def rates(file: pathlib.Path) -> list[float]:
    """Env steps per second of a level: kinetix, dd uncut, dd cut."""
    runners = [theirs(file), ours(Kinetix(level=str(file), cut=False)), ours(Kinetix(level=str(file)))]
    return [_BATCH * _STEPS / min(taken) for taken in in_turns(runners, _TURNS)]


def main() -> None:
    """Print a row for each level, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="a folder with level files (*.json)")
    files = sorted(parser.parse_args().folder.glob("*.json"))
    print(f"{'env steps/s':28} {'kinetix':>9} {'dd uncut':>9} {'dd cut':>9} {'cut/kinetix':>12}")
    measured = []
    for file in files:
        measured.append(rates(file))
        kinetix, uncut, cut = measured[-1]
        print(f"{file.stem:28} {kinetix:9,.0f} {uncut:9,.0f} {cut:9,.0f} {cut / kinetix:12.2f}", flush=True)
    kinetix, uncut, cut = np.array(measured).T
    mean = cut.mean() / kinetix.mean()
    print(f"{'mean of the levels':28} {kinetix.mean():9,.0f} {uncut.mean():9,.0f} {cut.mean():9,.0f} {mean:12.2f}")
    print(f"targets: {_MEAN:.0f} x on the mean, {_UNICYCLE:.0f} x on h17_unicycle")


if __name__ == "__main__":
    main()
