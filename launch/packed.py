"""Hydra launcher that takes a multirun whole: equal stages run once, rows that share a program share its executable."""

import pathlib
import sys
from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from launch import sweep


class PackedLauncher(Launcher):
    """Composes every job of the sweep, then runs them as one (`launch.sweep.execute`) in this process."""

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
        configs, returns = [], []
        for index, overrides in enumerate(job_overrides, start=initial_job_idx):
            composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(composed):
                del composed["hydra"]
            configs.append(composed)
            returns.append(self._returned(composed, overrides, folder / str(index)))
        summaries = sweep.execute(configs, folder)
        for each in returns:
            each.return_value = summaries
        return returns

    def _returned(self, composed: DictConfig, overrides: Sequence[str], folder: pathlib.Path) -> JobReturn:
        return JobReturn(
            overrides=filter_overrides(overrides),
            cfg=composed,
            working_dir=str(folder),
            task_name=self.config.hydra.job.name,
            status=JobStatus.COMPLETED,
        )


def register() -> None:
    """Make `hydra/launcher=packed` known to Hydra.

    Hydra looks for plugins in the package `hydra_plugins` alone; this module answers to such a name without lying there.
    """
    sys.modules[PackedLauncher.__module__] = sys.modules[__name__]
    Plugins.instance().register(PackedLauncher)
    ConfigStore.instance().store(
        group="hydra/launcher", name="packed", node={"_target_": "hydra_plugins.dd.PackedLauncher"}, provider="dd"
    )
