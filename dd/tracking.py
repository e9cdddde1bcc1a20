"""Weights & Biases: one run per training, named by its key, so that a resumed one continues."""

import dataclasses
import os
import pathlib
from typing import Any

from dd.errors import UserError

MODES = ("offline", "online", "disabled")


@dataclasses.dataclass(frozen=True)
class Tracking:
    """Where training metrics go.

    Attributes:
        mode: offline (files under `folder`, `wandb sync` sends them later), online, or disabled.
        project: the project's name.
        folder: parent of the `wandb` folder.
    """

    mode: str = "offline"
    project: str = "dd"
    folder: pathlib.Path = pathlib.Path("outputs")

    def start(self, key: str, name: str, config: dict[str, Any]) -> "Run":
        """Open the run of the training with that key; several may be open at once."""
        if self.mode == "disabled":
            return Run(None)
        import wandb  # a second of import that a run without training does not pay

        self.folder.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(silent=True, console="off", init_timeout=30)
        try:
            run = wandb.init(
                project=self.project,
                id=key,
                name=name,
                config=config,
                mode=self.mode,
                dir=os.fspath(self.folder),
                resume="allow",
                reinit="create_new",  # else it is the run that another thread has open
                settings=quiet,
            )
        except (wandb.errors.UsageError, wandb.errors.CommError) as problem:
            first = str(problem).strip().splitlines()[0]
            raise UserError(
                f"wandb.mode={self.mode}: {first}; log in with `wandb login`, or use wandb.mode=offline"
            ) from problem
        return Run(run)


class Run:
    """An open run, or none."""

    def __init__(self, run: Any):
        self._run = run

    def log(self, metrics: dict[str, int | float], step: int) -> None:
        """One row of metrics."""
        if self._run is not None:
            self._run.log(metrics, step=step)

    def finish(self) -> None:
        """Close it."""
        if self._run is not None:
            self._run.finish()
