"""Hydra launcher that takes a multirun whole: equal stages run once, rows that share a program share its executable."""

import dataclasses
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins import basic_sweeper
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from dd.errors import UserError
from launch import grid, plan, sweep
from launch.compose import Composer


class PackedLauncher(Launcher):
    """Composes every job of the sweep, then runs them as one in this process."""

    __module__ = "hydra_plugins.dd"  # see `register`

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs.

        Raises:
            UserError, SweepFailedError: see `launch.sweep.execute`.
        """
        setup_globals()
        folder = pathlib.Path(str(self.config.hydra.sweep.dir))
        composer = Composer(self.hydra_context.config_loader, self.config)
        configs = [composer.job(overrides) for overrides in job_overrides]
        summaries = self._take(configs, folder)
        return [
            JobReturn(
                overrides=filter_overrides(overrides),
                cfg=None,
                working_dir=str(folder),
                task_name=self.config.hydra.job.name,
                status=JobStatus.COMPLETED,
                _return_value=summaries,
            )
            for overrides in job_overrides
        ]

    def _take(self, configs: Sequence[dict[str, Any]], folder: pathlib.Path) -> Any:
        return sweep.execute(configs, folder)


class PlanLauncher(PackedLauncher):
    """Composes every job of the sweep, then says what there is to run."""

    __module__ = "hydra_plugins.dd"

    def _take(self, configs: Sequence[dict[str, Any]], folder: pathlib.Path) -> None:
        plan.show(configs)


class TidySweeper(Sweeper):
    """Hydra's own sweeper, with axes that advance together; it leaves no folder behind for a refused command.

    Args:
        max_batch_size: must be None: the launcher takes a sweep whole.
        params: the experiment's axes, as for Hydra's own.
        zip: lists of keys whose values are taken in step.
    """

    __module__ = "hydra_plugins.dd"

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None, zip: list[list[str]]):
        # Not a subclass: looking for plugins, Hydra executes that module again, and the class is another one then.
        self._basic = basic_sweeper.BasicSweeper(max_batch_size, params)
        # The launcher composes every job before it runs the first; to compose them here too would take seconds.
        self._basic.validate_batch_is_legal = lambda batch: None
        self._basic.split_arguments = lambda overrides, _: [grid.jobs(overrides, zip)]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self._folder = pathlib.Path(str(config.hydra.sweep.dir))
        self._basic.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs.

        Raises:
            UserError: when the sweep's folder can't be written, and what the launcher raises.
        """
        fresh = [each for each in (self._folder, *self._folder.parents) if not each.exists()]
        try:
            _require_writable(self._folder)
            return self._basic.sweep(arguments)
        finally:
            _tidy(self._folder, fresh)


@dataclasses.dataclass
class TidySweeperConf(basic_sweeper.BasicSweeperConf):
    """What `hydra.sweeper` holds."""

    _target_: str = "hydra_plugins.dd.TidySweeper"
    zip: list[list[str]] = dataclasses.field(default_factory=list)


def _require_writable(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as problem:
        way_out = "name a folder that can with hydra.sweep.dir="
        raise UserError(f"{folder} can't be written ({problem.strerror}): {way_out}") from problem


def _tidy(folder: pathlib.Path, fresh: Sequence[pathlib.Path]) -> None:
    """Remove a sweep's folder that holds nothing but Hydra's notes, and the folders that were made for it."""
    if folder not in fresh or any(each.is_file() and not _is_note(each) for each in folder.rglob("*")):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for each in fresh[1:]:
        if each.is_dir() and not any(each.iterdir()):
            each.rmdir()


def _is_note(file: pathlib.Path) -> bool:
    return file.name in ("multirun.yaml", "run.log") or file.parent.name == ".hydra"


def register() -> None:
    """Make `hydra/launcher=packed` and `hydra/sweeper=tidy` known to Hydra.

    Hydra looks for plugins in the package `hydra_plugins` alone; this module answers to a name in it.
    """
    sys.modules[PackedLauncher.__module__] = sys.modules[__name__]
    sweeper = TidySweeperConf()
    for group, name, cls, node in (
        ("hydra/launcher", "packed", PackedLauncher, {"_target_": "hydra_plugins.dd.PackedLauncher"}),
        ("hydra/launcher", "plan", PlanLauncher, {"_target_": "hydra_plugins.dd.PlanLauncher"}),
        ("hydra/sweeper", "tidy", TidySweeper, sweeper),
    ):
        Plugins.instance().register(cls)
        ConfigStore.instance().store(group=group, name=name, node=node, provider="dd")
