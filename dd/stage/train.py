"""Imitation: a policy's parameters from demonstrations."""

import csv
import dataclasses
import functools
import json
import math
import pathlib
import time
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from dd import arrays, fields
from dd.env.base import AbstractEnv
from dd.errors import UserError
from dd.model.base import AbstractModel
from dd.optimizer import AdamW
from dd.policy import LoadedPolicy
from dd.schedule.base import AbstractProcess
from dd.stage import simulated_delay, windows
from dd.stage.base import Runner, Work
from dd.stage.demonstrations import AbstractDemos, Demonstrations
from dd.stage.trained import AbstractTrained

_RESUME = ".resume.safetensors"
_STEPS_PER_CALL = 32
_MAY_END = "training may end before such an epoch"
_DELAY = 0xDE1A4  # names the stream of the prefixes' lengths


class DivergedError(Exception):
    """The loss is no longer a number."""


class _State(NamedTuple):
    params: PyTree[Array]
    opt_state: PyTree[Array]


class _Sums(NamedTuple):
    """What an epoch's steps add up, on the device."""

    metrics: dict[str, Float[Array, "2"]]
    bad_step: Int[Array, ""]  # the first step of the epoch whose loss is not finite, -1 if none


@fields.configuration
class Train(AbstractTrained):
    """Train a policy on demonstrations, once for every evaluation that uses it.

    Randomness: parameters, the order of the windows and the corruption are drawn from streams of their own, keyed by
    (seed, purpose, epoch, step). Interrupted, it goes on after the last whole epoch, and ends with the same parameters
    bit for bit (on one CPU count).

    With `patience` it ends after that many epochs in a row without a lower validation loss. With `init`, another
    training, it begins with that one's parameters after `init_epoch` (None: the last) and a fresh optimizer.
    """

    demos: AbstractDemos
    process: AbstractProcess
    model: AbstractModel
    optimizer: AdamW
    action_chunk_size: int = fields.field(8, ge=1, le=1024)
    epochs: int = fields.field(32, ge=1)
    batch_size: int = fields.field(512, ge=1)
    checkpoint_epochs: tuple[int, ...] = fields.field((), ge=1)
    simulated_delay: int | bool | None = fields.field(None, ge=2, since=None)
    patience: int | None = fields.field(None, ge=1, since=None)
    init: AbstractTrained | None = fields.field(None, since=None)
    init_epoch: int | str | None = fields.field(None, since=None)
    seed: int = fields.field(0, ge=0, lt=2**31, leaf=True)

    kind: ClassVar[str] = "train"

    def __post_init__(self) -> None:
        beyond = [epoch for epoch in self.checkpoint_epochs if epoch > self.epochs]
        if beyond:
            raise UserError(
                f"checkpoint_epochs={beyond}: training ends after epoch {self.epochs}; "
                "leave these out or raise train.epochs"
            )
        if self.checkpoint_epochs and self.patience is not None:
            raise UserError(
                f"checkpoint_epochs={list(self.checkpoint_epochs)} with train.patience={self.patience}: {_MAY_END}; "
                "leave one of the two out"
            )
        delay = self.simulated_delay
        if delay is False or (
            delay is not None and len(simulated_delay.lengths(delay, self.action_chunk_size)) > self.action_chunk_size
        ):
            raise UserError(
                f"simulated_delay={str(delay).lower()}: must be an integer 2..{self.action_chunk_size} (n: prefixes of "
                "0..n-1 actions), true (0..H/2) or null (none)"
            )

    def checkpoint(self, epoch: int | str | None) -> str:
        """The name of the parameters after an epoch: `last` for None, `best`, or a number that is kept.

        Raises:
            UserError: where that epoch is not kept.
        """
        if epoch is None:
            return "last"
        if epoch == "best":
            return "best"
        if self.patience is not None:
            raise UserError(f"{epoch}: {_MAY_END} with train.patience; name best or -1 (the last)")
        if epoch == self.epochs:
            return "last"
        if epoch in self.checkpoint_epochs:
            return f"epoch_{epoch}"
        kept = ", ".join(map(str, sorted({*self.checkpoint_epochs, self.epochs})))
        way_out = f"add it to train.checkpoint_epochs, or name one of {kept}, best or -1 (the last)"
        raise UserError(f"{epoch}: the training does not keep the parameters after that epoch; {way_out}")

    @property
    def env(self) -> AbstractEnv:
        """The level that the demonstrations are of."""
        return self.demos.env

    @property
    def given_prefixes(self) -> bool:
        """With `simulated_delay`."""
        return self.simulated_delay is not None

    @property
    def last_epoch(self) -> int | None:
        """With `patience` it may be an earlier one than `epochs`."""
        return self.epochs if self.patience is None else None

    @property
    def label(self) -> str:
        """Level and seed."""
        return f"{self.env.name} {type(self.process).__name__.lower()} seed={self.seed}"

    def program(self) -> Any:
        """All but the seed and the data; jax compiles again where the data's shape differs."""
        own = fields.content(dataclasses.replace(self, init=None, init_epoch=None), leaves=False)
        return {**own, "demos": {"num_transitions": self.demos.size}, "env": self.env.program()}

    def build(self) -> Runner:
        """One compiled step and one compiled validation for every seed."""
        return _Trainer(self)


class _Trainer:
    """Runs trainings of one program."""

    def __init__(self, stage: Train):
        self.policy = stage.policy()
        self.chunk = stage.action_chunk_size
        self.batch = stage.batch_size
        self.simulated_delay = stage.simulated_delay
        self._programs: dict[int, tuple[Any, Any, optax.GradientTransformation]] = {}
        self._stage = stage

    def __call__(self, stage: Train, work: Work) -> dict[str, Any]:
        data = Demonstrations.read(work.result(stage.demos))
        training, validation = data.split(self.chunk)
        if len(training) < self.batch:
            raise ValueError(
                f"batch_size={self.batch} is more than the {len(training)} training windows; "
                "use a smaller train.batch_size or more demos.num_transitions"
            )
        if not len(validation):
            raise ValueError(f"no validation window of {self.chunk} steps; record more with demos.num_transitions")
        run = _Run(self, stage, work, data, training, validation)
        return run.to_the_end()

    def programs(self, steps_per_epoch: int) -> tuple[Any, Any, optax.GradientTransformation]:
        """The compiled step, the compiled validation and the optimizer for a data set of that many steps an epoch."""
        if steps_per_epoch not in self._programs:
            tx = self._stage.optimizer.create(self._stage.epochs * steps_per_epoch)
            step = jax.jit(self._steps(tx), donate_argnums=(0, 1))
            self._programs[steps_per_epoch] = step, jax.jit(self._validate, static_argnums=(4,)), tx
        return self._programs[steps_per_epoch]

    def _batch(self, data: PyTree[Array], start: Int[Array, " b"]) -> tuple[PyTree[Array], Float[Array, "b h a"]]:
        return data.observations(start), windows.chunks(data.action, data.done, start, self.chunk)

    def _loss(
        self, params: PyTree[Array], key: Key[Array, ""], obs: PyTree[Array], actions: Float[Array, "b h a"]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The policy's loss on a batch, with prefixes given."""
        given = simulated_delay.kept(
            jax.random.fold_in(key, _DELAY), self.simulated_delay, actions.shape[0], self.chunk
        )
        return self.policy.loss(params, key, obs, actions, given)

    def _steps(self, tx: optax.GradientTransformation) -> Any:
        """Steps first..end-1 of an epoch in one call: a call per step would have its memory paged in anew each time."""

        def one(
            k: Int[Array, ""],
            carry: tuple[_State, _Sums],
            data: PyTree[Array],
            order: Int[Array, " n"],
            key: Key[Array, ""],
            scale: Float[Array, ""],
        ) -> tuple[_State, _Sums]:
            state, sums = carry
            obs, actions = self._batch(data, jax.lax.dynamic_slice(order, (k * self.batch,), (self.batch,)))
            grad = jax.value_and_grad(self._loss, has_aux=True)
            (loss, metrics), gradient = grad(state.params, jax.random.fold_in(key, k), obs, actions)
            updates, opt_state = tx.update(gradient, state.opt_state, state.params)
            updates = jax.tree.map(lambda x: scale * x, updates)
            metrics["gradient_norm"] = jnp.stack([optax.tree.norm(gradient), jnp.ones(())])
            bad_step = jnp.where((sums.bad_step < 0) & ~jnp.isfinite(loss), k, sums.bad_step)
            sums = _Sums({name: sums.metrics[name] + pair for name, pair in metrics.items()}, bad_step)
            return _State(optax.apply_updates(state.params, updates), opt_state), sums

        def steps(
            state: _State,
            sums: _Sums,
            data: PyTree[Array],
            order: Int[Array, " n"],
            first: Int[Array, ""],
            end: Int[Array, ""],
            key: Key[Array, ""],
            scale: Float[Array, ""],
        ) -> tuple[_State, _Sums]:
            return jax.lax.fori_loop(first, end, lambda k, carry: one(k, carry, data, order, key, scale), (state, sums))

        return steps

    def _validate(
        self, params: PyTree[Array], data: PyTree[Array], order: Int[Array, " n"], key: Key[Array, ""], batch: int
    ) -> dict[str, Float[Array, "2"]]:
        blocks = order[: order.shape[0] // batch * batch].reshape(-1, batch)

        def block(i: Int[Array, ""]) -> dict[str, Float[Array, "2"]]:
            obs, actions = self._batch(data, blocks[i])
            return self._loss(params, jax.random.fold_in(key, i), obs, actions)[1]

        return jax.tree.map(lambda x: x.sum(0), jax.lax.map(block, jnp.arange(blocks.shape[0])))


class _Run:
    """One training: its place among the epochs, its files."""

    def __init__(
        self,
        trainer: _Trainer,
        stage: Train,
        work: Work,
        data: Demonstrations,
        training: Int[np.ndarray, " n"],
        validation: Int[np.ndarray, " m"],
    ):
        self.trainer, self.stage, self.work, self.data = trainer, stage, work, data
        self.training, self.validation = jnp.asarray(training), jnp.asarray(validation)
        self.steps = len(training) // trainer.batch
        self.step, self.validate, self.tx = trainer.programs(self.steps)
        self.rows: list[dict[str, int | float]] = []
        self.timings: list[dict[str, int | float]] = []

    def _key(self, purpose: int) -> Key[Array, ""]:
        return jax.random.fold_in(jax.random.key(self.stage.seed), purpose)

    def to_the_end(self) -> dict[str, Any]:
        path, stage = self.work.path, self.stage
        state = self._resume()
        remaining = range(len(self.rows), stage.epochs)
        total = len(remaining) * self.steps * self.trainer.batch
        with self.work.progress(total=total, unit="samples") as advance:
            for epoch in remaining:
                if self._waited():
                    break
                state = self._epoch(state, epoch, advance)
                self._save(state, epoch)
        arrays.write(path / "last.safetensors", _plain(state.params))
        _write_table(path / "metrics.csv", self.rows)
        _write_table(path / "timings.csv", self.timings)
        (path / "policy.json").write_text(json.dumps(self.trainer.policy.describe(), indent=1))
        best = min(self.rows, key=lambda row: row["validation_loss"])
        last = {name: value for name, value in self.rows[-1].items() if name != "epoch"}
        return {**last, "best_epoch": best["epoch"], "best_validation_loss": best["validation_loss"]}

    def _waited(self) -> bool:
        """Whether `patience` epochs in a row have not lowered the validation loss."""
        losses, patience = [row["validation_loss"] for row in self.rows], self.stage.patience
        return patience is not None and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])

    def _epoch(self, state: _State, epoch: int, advance: Any) -> _State:
        begin = time.monotonic()
        order = jax.random.permutation(jax.random.fold_in(self._key(1), epoch), self.training)
        key = jax.random.fold_in(self._key(2), epoch)
        sums = self._zero_sums()
        scale = self.stage.optimizer.scale([row["validation_loss"] for row in self.rows])
        for first in range(0, self.steps, _STEPS_PER_CALL):
            end = min(first + _STEPS_PER_CALL, self.steps)
            state, sums = self.step(state, sums, self.data, order, first, end, key, scale)
            self._check(sums, epoch)
            advance((end - first) * self.trainer.batch)
        seconds = time.monotonic() - begin
        row = {"epoch": epoch + 1, **_means(sums.metrics, "")}
        batch = min(self.trainer.batch, len(self.validation))
        held_out = self.validate(state.params, self.data, self.validation, self._key(3), batch)
        row |= _means({name: held_out[name] for name in ("loss", "token_accuracy") if name in held_out}, "validation_")
        samples = self.steps * self.trainer.batch / seconds
        self.rows.append(row)
        self.timings.append({"epoch": epoch + 1, "seconds": seconds, "samples_per_second": samples})
        self.work.log({**row, "samples_per_second": samples}, epoch + 1)
        return state

    def _zero_sums(self) -> _Sums:
        batch = self.trainer.batch
        validate = functools.partial(self.trainer._validate, batch=batch)
        shapes = jax.eval_shape(validate, self._shapes().params, self.data, self.training[:batch], self._key(3))
        names = [*shapes, "gradient_norm"]
        return _Sums({name: jnp.zeros(2) for name in names}, jnp.asarray(-1, jnp.int32))

    def _shapes(self) -> _State:
        params = jax.eval_shape(self.trainer.policy.create, jax.random.key(0))
        return _State(params, jax.eval_shape(self.tx.init, params))

    def _check(self, sums: _Sums, epoch: int) -> None:
        bad = int(sums.bad_step)
        if bad >= 0:
            raise DivergedError(
                f"the loss is not finite in epoch {epoch + 1}, step {bad + 1} of {self.steps}; try a smaller "
                f"optimizer.learning_rate (now {self.stage.optimizer.learning_rate:g}), a longer "
                f"optimizer.warmup_steps "
                f"(now {self.stage.optimizer.warmup_steps}) or a smaller optimizer.clip_norm "
                f"(now {self.stage.optimizer.clip_norm:g})"
            )

    def _save(self, state: _State, epoch: int) -> None:
        path, row = self.work.path, self.rows[-1]
        if row["validation_loss"] <= min(each["validation_loss"] for each in self.rows):
            arrays.write(path / "best.safetensors", _plain(state.params))
        if epoch + 1 in self.stage.checkpoint_epochs:
            arrays.write(path / f"epoch_{epoch + 1}.safetensors", _plain(state.params))
        # Last: an epoch counts as done once this file has replaced its predecessor.
        told = {"rows": json.dumps(self.rows), "timings": json.dumps(self.timings)}
        arrays.write(path / _RESUME, _plain(state), told)

    def _resume(self) -> _State:
        file = self.work.path / _RESUME
        if not file.exists():
            params = self._first()
            return _State(params, self.tx.init(params))
        told = arrays.metadata(file)
        self.rows, self.timings = json.loads(told["rows"]), json.loads(told["timings"])
        self.work.say(f"{self.stage.label}: goes on after epoch {len(self.rows)} of {self.stage.epochs}")
        return jax.tree.map(jnp.asarray, arrays.read(file, self._shapes()))

    def _first(self) -> PyTree[Array]:
        """The parameters before the first epoch."""
        before = self.stage.init
        if before is None:
            return self.trainer.policy.create(self._key(0))
        return LoadedPolicy.read(self.work.result(before), before.checkpoint(self.stage.init_epoch)).params


def _plain(tree: PyTree[Array]) -> PyTree[np.ndarray]:
    return jax.tree.map(np.asarray, tree)


def _means(metrics: dict[str, Float[Array, "2"]], prefix: str) -> dict[str, float]:
    values = {name: float(pair[0]) / float(pair[1]) if float(pair[1]) else math.nan for name, pair in metrics.items()}
    return {f"{prefix}{name}": value for name, value in values.items()}


def _write_table(path: pathlib.Path, rows: list[dict[str, int | float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
