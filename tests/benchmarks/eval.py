"""Evaluation wall time: a grid of (d, s) through one compiled program, against one program per pair.

    python -m tests.benchmarks.eval [--episodes 64] [--pairs 24] [--slots 16]

Both ways run the same rollout of an untrained policy of reference size under `hard_masking`. One program per pair, with
d and s closed over as constants, is how the public reference does it. Compiling counts on both sides; no compile cache.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from dd.decode.base import POLICY
from dd.decode.hard_masking import HardMasking
from dd.env.kinetix import Kinetix
from dd.model.mixer import Mixer
from dd.policy import Policy
from dd.rollout import Rollout, leaves
from dd.schedule.masked import Masked, MaskGIT

H = 8
LEVEL = "l/h17_unicycle"
PAIRS = [(d, s) for d in range(5) for s in range(max(1, d), H - d + 1)]
TARGET = 4.0


def pairs(count):
    """`count` of the 24 pairs, spread evenly over them."""
    return [PAIRS[i] for i in np.linspace(0, len(PAIRS) - 1, count).round().astype(int)]


def delays(d, s):
    return {"inference_delay": jnp.int32(d), "execute_horizon": jnp.int32(s)}


class Timed:
    """Seconds spent compiling and running."""

    def __init__(self):
        self.compiling = self.running = 0.0

    def compile(self, function, *arguments):
        begin = time.perf_counter()
        compiled = jax.jit(function).lower(*arguments).compile()
        self.compiling += time.perf_counter() - begin
        return compiled

    def run(self, compiled, *arguments):
        begin = time.perf_counter()
        episodes = jax.device_get(compiled(*arguments))
        self.running += time.perf_counter() - begin
        return episodes

    @property
    def total(self):
        return self.compiling + self.running


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=len(PAIRS))
    parser.add_argument(
        "--slots", type=int, default=16, help="episodes side by side; fewer waste less on the last ones"
    )
    chosen = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)

    env, decode, sampler = Kinetix(level=LEVEL), HardMasking(), MaskGIT()
    policy = Policy(Masked(), Mixer(), env.spec(), H)
    rollout = Rollout(env, policy, decode, sampler, chosen.episodes, chosen.slots)
    params, level = {POLICY: jax.jit(policy.create)(jax.random.key(0))}, env.load()
    rest = leaves(
        decode, sampler, inference_delay=0, execute_horizon=1, env_seed=0, policy_seed=0, level_id=env.level_id()
    )
    grid = pairs(chosen.pairs)

    one = Timed()
    program = one.compile(rollout, params, level, rest)
    shared = [one.run(program, params, level, rest | delays(d, s)) for d, s in grid]

    each = Timed()
    for (d, s), expected in zip(grid, shared, strict=True):
        fixed = delays(d, s)  # concrete where the program is traced: constants of it

        def alone(params, level, rest, fixed=fixed):
            return rollout(params, level, rest | fixed)

        episodes = each.run(each.compile(alone, params, level, rest), params, level, rest)
        equal = np.mean(episodes.length == expected.length)
        spent = int(expected.iterations) * min(chosen.slots, chosen.episodes)
        print(
            f"d={d} s={s}: length {expected.length.mean():6.1f}, useful {expected.length.sum() / spent:.2f}, "
            f"equal alone {equal:.0%}",
            flush=True,
        )

    print(f"{LEVEL}, {len(grid)} of 24 pairs, {chosen.episodes} episodes each, {jax.devices()[0].device_kind}")
    print(f"{'':20}{'compile s':>10}{'run s':>8}{'total s':>9}")
    for name, timed in (("one program", one), ("one per pair", each)):
        print(f"{name:20}{timed.compiling:10.1f}{timed.running:8.1f}{timed.total:9.1f}")
    print(f"ratio {each.total / one.total:.1f} (target {TARGET:.0f} for 24 pairs at 64 episodes)")


if __name__ == "__main__":
    main()
