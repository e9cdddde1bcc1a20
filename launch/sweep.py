"""A sweep from its composed configurations to its table: what every launcher ends up calling."""

import math
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax

from analysis import plots, results, tables
from dd import pipeline, progress
from dd.stage.eval import Eval
from dd.store import Result, Store
from launch import arms
from launch.plan import prepare

_WRITE_EVERY = 2.0  # seconds between two writings of results.csv while rows finish


class SweepFailedError(Exception):
    """Some rows failed; they have been reported, the command ends with 1."""


def execute(configs: Sequence[dict[str, Any]], folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Run every row of a sweep that the store lacks, and write its table and figure into `folder`.

    Args:
        configs: as `dd.config.read` gives them.
        folder: the sweep's own.

    Returns:
        The summary of each row by key.

    Raises:
        UserError: for what a user can put right; nothing has run.
        SweepFailedError: when rows failed; the others are done and in the table.
    """
    begin = time.monotonic()
    prepared = prepare(configs)
    prepared.tell()
    plan, store = prepared.plan, prepared.plan.store
    table = _Table(folder, store, dict(zip(map(plan.key, plan.asked), arms.names(plan.asked), strict=True)))
    if plan.pending():
        _use_compile_cache(store)
    outcome = pipeline.ensure(
        plan,
        device=prepared.device,
        devices=prepared.alike,
        tracking=prepared.settings.tracking,
        logs=folder / "failures",
        finished=table.add,
    )
    table.show(time.monotonic() - begin, outcome.ran)
    if outcome.failures:
        _tell(outcome.failures.values())
        raise SweepFailedError
    return {key: result.manifest["summary"] for key, result in outcome.results.items()}


def _use_compile_cache(store: Store) -> None:
    jax.config.update("jax_compilation_cache_dir", os.fspath(store.cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


class _Table:
    """The sweep's results on disk as its rows finish, and at the end as a table and a figure."""

    def __init__(self, folder: pathlib.Path, store: Store, names: dict[str, str]):
        self.folder, self.store, self.names = folder, store, names
        self.rows: list[dict[str, Any]] = []
        self.written = -math.inf

    def add(self, stage: Eval, result: Result) -> None:
        self.rows.append(row(stage, result, self.names[result.key]))
        if time.monotonic() - self.written > _WRITE_EVERY:
            self._write()

    def show(self, seconds: float, ran: int) -> None:
        if not self.rows:
            return
        self._write()
        frame = results.read_results(self.folder)
        progress.say("\n" + tables.write_table(frame, self.folder))
        plots.draw(frame, self.folder)
        _link_latest(self.folder)
        progress.say(
            f"\n{ran} stages ran in {progress.duration(seconds)}. Table, figure and rows: {self.folder}"
            f" (table.md, delay_curve.png, results.csv ...); results: {self.store.root}"
        )

    def _write(self) -> None:
        order = {key: place for place, key in enumerate(self.names)}  # whatever was done before, and ran first
        results.write_results(sorted(self.rows, key=lambda each: order[each["key"]]), self.folder)
        self.written = time.monotonic()


def row(stage: Eval, result: Result, arm: str) -> dict[str, Any]:
    """One line of results.csv; `arm` is the name under which it stands in the table."""
    summary = result.manifest["summary"]
    return {
        "returned_episode_lengths": summary["returned_episode_lengths"],
        "returned_episode_returns": summary["returned_episode_returns"],
        "returned_episode_solved": summary["returned_episode_solved"],
        "delay": stage.inference_delay,
        "method": arm,
        "level": stage.policy.env.name,
        "execute_horizon": stage.execute_horizon,
        "seed": stage.policy.seed,
        "num_flow_steps": stage.decode.num_flow_steps,
        "num_evals": stage.num_evals,
        "epoch": _epoch(stage),
        "network_evaluations": summary["network_evaluations"],
        "useful_share": summary["useful_share"],
        "latency_ms": _milliseconds(result.manifest.get("timings", {}).get("latency")),
        "device": result.manifest["device"],
        "published_level": stage.policy.env.published,
        "key": result.key,
    }


def _epoch(stage: Eval) -> int | str:
    """The epoch of the parameters: its number where that is known without the training's result."""
    return (stage.policy.last_epoch or "last") if stage.epoch is None else stage.epoch


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1e3 * seconds, 3)


def _link_latest(folder: pathlib.Path) -> None:
    """Point `latest` beside the sweep's folder at it."""
    link, partial = folder.parent / "latest", folder.parent / f".latest-{os.getpid()}"
    if link.exists() and not link.is_symlink():  # something of the user's own, in a folder of his own
        return
    partial.symlink_to(folder.name, target_is_directory=True)
    os.replace(partial, link)


def _tell(failures: Any) -> None:
    failures = list(failures)
    failed = [each for each in failures if each.log is not None]
    blocked = len(failures) - len(failed)
    progress.say(f"\n{len(failed)} failed, {blocked} blocked by them; the same command runs only these:")
    for each in failures:
        where = f" (traceback: {each.log})" if each.log else ""
        progress.say(f"  {each.stage.kind} {each.stage.label}: {each.reason}{where}")
