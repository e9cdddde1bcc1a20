"""Whether cutting a level changes what a trained policy solves: `python -m tests.benchmarks.cut KEY LEVEL`.

The policy of a training in the store (`python -m dd.store ls`) plays the same numbered episodes on a level cut to its
active entities, and uncut. Prints both solve rates and the 95 % interval of their difference, paired by episode.
"""

import argparse
import math
import time

import jax
import numpy as np

import dd
from dd.decode.base import POLICY
from dd.decode.naive import Naive
from dd.env.kinetix import Kinetix
from dd.rollout import Rollout, leaves

BOUND = 0.06


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("key", help="beginning of a training's key, or a part of its label")
    parser.add_argument("level", help="the level it was trained on, for instance l/h17_unicycle")
    parser.add_argument("--store", help="its store; else $DD_STORE, else outputs/store")
    parser.add_argument("--checkpoint", default="last", help="last, best, or epoch_<n>")
    parser.add_argument("--delay", type=int, default=0, help="inference delay d; s = max(1, d)")
    parser.add_argument("--episodes", type=int, default=1024)
    parser.add_argument("--slots", type=int, default=128)
    chosen = parser.parse_args()

    loaded = dd.load(chosen.key, store=chosen.store, checkpoint=chosen.checkpoint)
    decode, sampler = Naive(), loaded.policy.process.sampler()
    solved = []
    for cut in (True, False):
        env = Kinetix(level=chosen.level, cut=cut)
        rollout = jax.jit(Rollout(env, loaded.policy, decode, sampler, chosen.episodes, chosen.slots).__call__)
        numbers = leaves(
            decode,
            sampler,
            inference_delay=chosen.delay,
            execute_horizon=max(1, chosen.delay),
            env_seed=0,
            policy_seed=0,
            level_id=env.level_id(),
        )
        begin = time.perf_counter()
        episodes = jax.device_get(rollout({POLICY: loaded.params}, env.load(), numbers))
        seconds = time.perf_counter() - begin
        solved.append(np.asarray(episodes.solved, float))
        name = "cut" if cut else "uncut"
        print(f"{name:6} solved {solved[-1].mean():.4f}, mean length {episodes.length.mean():6.1f}, {seconds:.0f} s")
    difference = solved[0] - solved[1]
    half = 1.96 * difference.std(ddof=1) / math.sqrt(len(difference))
    print(
        f"{env.name}, d = {chosen.delay}, {chosen.episodes} episodes: cut - uncut {difference.mean():+.4f} "
        f"[{difference.mean() - half:+.4f}, {difference.mean() + half:+.4f}] (bound {BOUND})"
    )


if __name__ == "__main__":
    main()
