"""Closed-loop evaluation of a trained policy: one row of a sweep."""

import concurrent.futures
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np

from dd import fields
from dd.decode.base import POLICY, AbstractDecode
from dd.latency import Latency
from dd.policy import LoadedPolicy
from dd.rollout import Episodes, Rollout, leaves
from dd.schedule.base import AbstractSampler
from dd.stage.base import AbstractStage, Runner, Work
from dd.stage.trained import AbstractTrained

_SIDE_BY_SIDE = 8  # rows at most, whatever the number of cores: each takes memory


@runtime_checkable
class TimingWork(Work, Protocol):
    """A pipeline's view that takes times, to stand beside the result."""

    def timed(self, name: str, seconds: float) -> None:
        """Something took so long."""


@fields.configuration
class Eval(AbstractStage):
    """Evaluate a policy under one decode, inference delay d and execute horizon s.

    The policy's sampling is seeded by the seed of its own stage; `seed` is that of the episodes, which every decode,
    delay and policy of a sweep shares. `epoch` is that of the parameters: one that the policy's stage keeps (for a
    training those of `train.checkpoint_epochs` and `best` by validation loss), or None, the last.
    """

    policy: AbstractTrained
    decode: AbstractDecode
    sampler: AbstractSampler
    epoch: int | str | None = fields.field(None, since=None)
    inference_delay: int = fields.field(0, ge=0, leaf=True)
    execute_horizon: int = fields.field(1, ge=1, leaf=True)
    num_evals: int = fields.field(64, ge=1)
    seed: int = fields.field(0, ge=0, lt=2**31, leaf=True)
    slots: int = fields.field(64, ge=1, hashed=False)

    kind: ClassVar[str] = "eval"

    @property
    def method(self) -> str:
        """The decode's name in tables: its module's."""
        return type(self.decode).__module__.rpartition(".")[2]

    @property
    def label(self) -> str:
        """Level, seed, decode, d and s."""
        where = f"{self.policy.env.name} seed={self.policy.seed}"
        return f"{where} {self.method} d={self.inference_delay} s={self.execute_horizon}"

    def program(self) -> Any:
        """Decode, policy and level shape: a whole grid of leaves shares it."""
        policy = self.policy
        return {
            "env": policy.env.program(),
            "process": fields.content(policy.process, leaves=False),
            "model": fields.content(policy.model, leaves=False),
            "chunk": policy.action_chunk_size,
            "simulated_delay": policy.given_prefixes,
            "decode": fields.content(self.decode, leaves=False),
            "sampler": fields.content(self.sampler, leaves=False),
            "num_evals": self.num_evals,
            "slots": self.slots,
        }

    def build(self) -> Runner:
        """One compiled rollout for every row."""
        return _Evaluator(self)

    def params(self, training: pathlib.Path) -> dict[str, Any]:
        """The policy's parameters, and those of the epochs that the decode wants beside them."""
        wanted = {POLICY: self.epoch, **self.decode.checkpoints()}
        return {
            name: LoadedPolicy.read(training, self.policy.checkpoint(epoch)).params for name, epoch in wanted.items()
        }

    def leaves(self) -> dict[str, jax.Array]:
        """The arrays in which rows of one program differ, beside parameters and level."""
        return leaves(
            self.decode,
            self.sampler,
            inference_delay=self.inference_delay,
            execute_horizon=self.execute_horizon,
            env_seed=self.seed,
            policy_seed=self.policy.seed,
            level_id=self.policy.env.level_id(),
        )

    def write(self, folder: pathlib.Path, episodes: Episodes) -> dict[str, Any]:
        """Write `episodes.npz` (solved, length, return_, by episode number); return the row's means."""
        kept = {"solved": episodes.solved, "length": episodes.length, "return_": episodes.return_}
        np.savez(folder / "episodes.npz", allow_pickle=False, **{name: np.asarray(x) for name, x in kept.items()})
        iterations, slots = int(episodes.iterations), min(self.slots, self.num_evals)
        return {
            "returned_episode_lengths": float(np.mean(episodes.length)),
            "returned_episode_returns": float(np.mean(episodes.return_, dtype=np.float64)),
            "returned_episode_solved": float(np.mean(episodes.solved)),
            "network_evaluations": float(np.sum(episodes.evaluations)) / float(np.sum(episodes.chunks)),
            "useful_share": float(np.sum(episodes.length)) / (iterations * slots),
        }


class _Evaluator:
    """Evaluations through one program.

    On CPUs several run side by side: a rollout is a chain of small operations, which one at a time leaves cores idle.
    Only computation happens beside the caller's thread, on the device where the caller computes.
    """

    def __init__(self, stage: Eval):
        policy = stage.policy.policy()
        rollout = Rollout(stage.policy.env, policy, stage.decode, stage.sampler, stage.num_evals, stage.slots)
        self._rollout = jax.jit(rollout.__call__)
        self._latency = Latency(policy, stage.decode, stage.sampler)
        self._side_by_side = min(os.cpu_count() or 1, _SIDE_BY_SIDE) if jax.default_backend() == "cpu" else 1
        self._device = jax.config.jax_default_device  # of this thread: those beside it would use jax's first
        self._threads = concurrent.futures.ThreadPoolExecutor(self._side_by_side)
        self._begun: dict[str, concurrent.futures.Future[Episodes]] = {}
        self._compiled = False

    def ahead(self, stages: Iterable[Eval], result: Callable[[AbstractTrained], pathlib.Path]) -> None:
        """Begin rows that will be asked for next; `result` gives the folder of a policy."""
        if self._compiled:  # else each would compile
            for stage in itertools.islice(stages, self._side_by_side - 1):
                self._begin(stage, result)

    def __call__(self, stage: Eval, work: TimingWork) -> dict[str, Any]:
        """Run one row, or wait for it where it has begun."""
        self._begin(stage, work.result)
        episodes = self._begun.pop(stage.key()).result()
        self._compiled = True
        numbers = stage.leaves()
        if not self._latency.knows(numbers):
            concurrent.futures.wait(self._begun.values())  # what runs beside it would be measured too
            self._latency.measure(stage.params(work.result(stage.policy)), numbers)
        work.timed("latency", self._latency[numbers])
        return stage.write(work.path, episodes)

    def _begin(self, stage: Eval, result: Callable[[AbstractTrained], pathlib.Path]) -> None:
        if (key := stage.key()) not in self._begun:
            self._begun[key] = self._threads.submit(self._episodes, stage, result(stage.policy))

    def _episodes(self, stage: Eval, training: pathlib.Path) -> Episodes:
        with jax.default_device(self._device):
            return jax.device_get(self._rollout(stage.params(training), stage.policy.env.load(), stage.leaves()))
