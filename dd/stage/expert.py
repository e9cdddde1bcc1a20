"""Experts: PPO on one level until it is solved, kept as several checkpoints with their solve rates."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Int, Key, PyTree

from dd import arrays, fields
from dd.env.base import AbstractEnv
from dd.model import actor
from dd.model.actor import FRAMES, Actor
from dd.stage import checkpoints, ppo, probe
from dd.stage.base import AbstractStage, Runner, Work
from dd.stage.checkpoints import Checkpoints
from dd.stage.ppo import PPO, Learner, Slot, Steps

STATE = ".state.safetensors"
# What a key is drawn for; the seed, one of these and a count name every random number of a training.
CREATE, START, PLAY, IMPROVE, EVALUATE = range(5)


@fields.configuration
class Expert(AbstractStage):
    """An actor trained by PPO with the env's dense reward; it sees four frames and the last action (see `actor`).

    A checkpoint is taken every `checkpoint_steps` (rounded up to whole updates); the latest `num_checkpoints` are kept.
    Training stops after `total_steps`, or once the solve rate has been at least `stop_rate` between `stop_windows`
    checkpoints in a row. Then each kept checkpoint plays `num_evals` episodes, each once to its end, by the stochastic
    policy that demonstrations use.

    The networks read only the entries of the observation that change when random actions are played on the level.
    """

    kind = "expert"

    env: AbstractEnv
    seed: int = fields.field(0, ge=0, lt=2**31, leaf=True)
    ppo: PPO = PPO()
    total_steps: int = fields.field(4_194_304, ge=1)
    checkpoint_steps: int = fields.field(131_072, ge=1)
    num_checkpoints: int = fields.field(6, ge=1)
    stop_rate: float | None = fields.field(0.95, gt=0, le=1)
    stop_windows: int = fields.field(3, ge=1)
    num_evals: int = fields.field(512, ge=1)

    @property
    def label(self) -> str:
        """For instance `l/h17_unicycle expert seed=0`."""
        return f"{self.env.name} expert seed={self.seed}"

    def program(self) -> Any:
        """The configuration without its seed, and of the env only what its functions close over."""
        return fields.content(self, leaves=False) | {"env": self.env.program()}

    def build(self) -> Runner:
        """Compile for every level and seed of this program."""
        programs = compile_programs(self.env, self.ppo)

        def runner(stage: "Expert", work: Work) -> dict[str, Any]:
            level = stage.env.load()
            varies = programs.probe(level, jax.random.key(stage.env.level_id()))
            return Run(stage, work, programs, level, probe.padded(np.asarray(varies))).complete()

        return runner


class Window(NamedTuple):
    """The episodes that ended between two checkpoints, while the policy learned.

    Attributes:
        steps: env steps trained at the window's end.
        solved: episodes that reached the goal.
        ended: episodes that ended.
    """

    steps: int
    solved: int
    ended: int

    @property
    def solve_rate(self) -> float | None:
        """Solved of ended; None when no episode ended."""
        return self.solved / self.ended if self.ended else None


class Training(NamedTuple):
    """What the next update depends on, and the checkpoints kept so far."""

    learner: Learner
    slots: Slot
    kept: tuple[Actor, ...]


class Programs(NamedTuple):
    """Compiled functions; level, columns, parameters and keys are their arguments."""

    probe: Callable[[PyTree[Array], Key[Array, ""]], Bool[Array, "o"]]
    create: Callable[[Int[Array, "k"], Key[Array, ""]], Learner]
    start: Callable[[PyTree[Array], Int[Array, "k"], Key[Array, ""]], Slot]
    play: Callable[..., tuple[Slot, Steps]]
    improve: Callable[[Learner, Steps, Slot, Key[Array, ""]], tuple[Learner, Array]]


def compile_programs(env: AbstractEnv, settings: PPO) -> Programs:
    """The programs for all levels that share `env.program()`."""
    action_dim = len(env.spec().action_low)

    def create(columns: Int[Array, "k"], key: Key[Array, ""]) -> Learner:
        return settings.create(key, FRAMES * columns.shape[0] + action_dim, action_dim)

    def start(level: PyTree[Array], columns: Int[Array, "k"], key: Key[Array, ""]) -> Slot:
        keys = jax.random.split(key, settings.num_envs)
        return jax.vmap(lambda each: ppo.start(env, level, columns, each))(keys)

    def improve(learner: Learner, steps: Steps, slots: Slot, key: Key[Array, ""]) -> tuple[Learner, Array]:
        return settings.improve(learner, steps, jax.vmap(actor.inputs)(slots.history), key)

    return Programs(
        probe=jax.jit(functools.partial(probe.varying, env)),
        create=jax.jit(create),
        start=jax.jit(start),
        play=jax.jit(functools.partial(ppo.play, env, settings)),
        improve=jax.jit(improve),
    )


@dataclasses.dataclass(frozen=True)
class Run:
    """One expert's training and evaluation."""

    stage: Expert
    work: Work
    programs: Programs
    level: PyTree[Array]
    columns: Int[np.ndarray, "k"]

    def complete(self) -> dict[str, Any]:
        """Train, evaluate what was kept, write the checkpoints; the summary."""
        kept, windows = self.train()
        steps = [window.steps for window in windows[-len(kept) :]]
        rates = self.evaluate(kept, steps)
        stacked = jax.tree.map(lambda *each: np.stack(each), *kept)
        columns = self.columns[self.columns >= 0]
        found = Checkpoints(stacked, columns, np.asarray(steps, np.int32), np.asarray(rates, np.float32))
        checkpoints.save(self.work.path, found)
        while_training = [{"steps": each.steps, "ended": each.ended, "solve_rate": each.solve_rate} for each in windows]
        return {"steps": steps, "solve_rates": rates, "num_evals": self.stage.num_evals, "windows": while_training}

    def key(self, purpose: int, count: int) -> Key[Array, ""]:
        """The key of one use of randomness."""
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(self.stage.seed), purpose), count)

    def train(self) -> tuple[tuple[Actor, ...], list[Window]]:
        """Window after window, from where an interrupted training stood."""
        training, windows = self.resume()
        batch = self.stage.ppo.batch_size
        updates = math.ceil(self.stage.checkpoint_steps / batch)
        with self.work.progress(total=self.stage.total_steps, unit="steps") as advance:
            advance(len(windows) * updates * batch)
            while len(windows) * updates * batch < self.stage.total_steps and not self.held(windows):
                done = len(windows) * updates
                training, window = self.window(training, range(done, done + updates), advance)
                windows = [*windows, window]
                arrays.write(self.work.path / STATE, training, {"windows": json.dumps(windows)})
                self.report(window)
        return training.kept, windows

    def window(self, training: Training, updates: range, advance: Callable[[float], None]) -> tuple[Training, Window]:
        """The updates up to the next checkpoint."""
        learner, slots, kept = training
        solved = ended = 0
        for update in updates:
            slots, steps = self.programs.play(learner.actor, self.level, self.columns, slots, self.key(PLAY, update))
            learner, loss = self.programs.improve(learner, steps, slots, self.key(IMPROVE, update))
            solved, ended = solved + int(steps.solved.sum()), ended + int(steps.done.sum())
            self.require_finite(float(loss), update)
            advance(self.stage.ppo.batch_size)
        kept = (*kept, checkpoints.compact(learner.actor, self.columns))[-self.stage.num_checkpoints :]
        return Training(learner, slots, kept), Window(updates.stop * self.stage.ppo.batch_size, solved, ended)

    def require_finite(self, loss: float, update: int) -> None:
        """Raise FloatingPointError when the loss is not a number or infinite."""
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"{self.stage.label}: the loss is {loss} at update {update}: try a smaller expert.ppo.learning_rate "
                f"({self.stage.ppo.learning_rate}) or expert.ppo.max_grad_norm ({self.stage.ppo.max_grad_norm})."
            )

    def held(self, windows: list[Window]) -> bool:
        """The solve rate has held `stop_rate` for `stop_windows`."""
        latest = windows[-self.stage.stop_windows :]
        if self.stage.stop_rate is None or len(latest) < self.stage.stop_windows:
            return False
        return all(each.solve_rate is not None and each.solve_rate >= self.stage.stop_rate for each in latest)

    def resume(self) -> tuple[Training, list[Window]]:
        """The state after the last window, or that before the first."""
        learner = self.programs.create(self.columns, self.key(CREATE, 0))
        slots = self.programs.start(self.level, self.columns, self.key(START, 0))
        path = self.work.path / STATE
        if not path.exists():
            return Training(learner, slots, ()), []
        windows = [Window(*each) for each in json.loads(arrays.metadata(path)["windows"])]
        kept = checkpoints.compact(learner.actor, self.columns)
        like = Training(learner, slots, (kept,) * min(len(windows), self.stage.num_checkpoints))
        return arrays.read(path, like), windows

    def report(self, window: Window) -> None:
        """One line for the reader, and the tracker's numbers."""
        rate = "no episode ended" if window.solve_rate is None else f"solve rate {window.solve_rate:.3f}"
        self.work.say(f"{self.stage.label}: {window.steps:,} steps, {rate} ({window.ended} episodes)")
        if window.solve_rate is not None:
            self.work.log({"expert/solve_rate": window.solve_rate}, window.steps)

    def evaluate(self, kept: tuple[Actor, ...], steps: list[int]) -> list[float]:
        """The solve rate of each checkpoint."""
        rates = []
        with self.work.progress(total=len(kept) * self.stage.num_evals, unit="episodes") as advance:
            for policy, at in zip(kept, steps, strict=True):
                rates.append(self.solve_rate(policy))
                advance(self.stage.num_evals)
                self.work.say(f"{self.stage.label}: the checkpoint of step {at:,} solves {rates[-1]:.3f}")
        return rates

    def solve_rate(self, policy: Actor) -> float:
        """Share of `num_evals` episodes solved, numbered beforehand: a slot plays its own ones, each to its end."""
        columns = self.columns[self.columns >= 0]
        widened = checkpoints.spread(policy, columns, self.columns)
        share = np.arange(self.stage.ppo.num_envs) * self.stage.num_evals // self.stage.ppo.num_envs
        quota = np.diff(np.append(share, self.stage.num_evals))
        ended, solved = np.zeros_like(quota), 0
        slots = self.programs.start(self.level, self.columns, self.key(EVALUATE, 0))
        count = 1
        while np.any(ended < quota):
            slots, steps = self.programs.play(widened, self.level, self.columns, slots, self.key(EVALUATE, count))
            done = np.asarray(steps.done)
            number = ended + np.cumsum(done, axis=0) - done
            solved += int(np.sum(np.asarray(steps.solved) & done & (number < quota)))
            ended, count = ended + done.sum(axis=0), count + 1
        return solved / self.stage.num_evals
