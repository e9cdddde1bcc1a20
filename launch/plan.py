"""What there is to run of a sweep, before anything runs; `hydra/launcher=plan` shows it, and that is all it does."""

import collections
import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from dd import config, devices, pipeline, progress
from dd.errors import ImpossiblePairError, UserError
from dd.stage.eval import Eval
from dd.store import Store

_IMPOSSIBLE = "their inference_delay and execute_horizon exclude each other."


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A sweep that could begin.

    Attributes:
        settings: how and where it runs.
        plan: its stages, each with its state.
        device: the name of what computes.
        alike: jax's devices of that name.
        left_out: how many rows can't be run, by reason.
    """

    settings: config.Settings
    plan: pipeline.Plan
    device: str
    alike: Sequence[Any]
    left_out: dict[str, int]

    def tell(self) -> None:
        """The lines that a reader sees first."""
        progress.say(self.plan.first_line(self.device, len(self.alike)))
        for reason, count in self.left_out.items():
            progress.say(f"{count} rows are left out: {reason}")
        for line in self.plan.notices():
            progress.say(line)


def prepare(configs: Sequence[dict[str, Any]], *, lenient: bool = False) -> Prepared:
    """Build a sweep's rows and look up what the store has of them.

    Args:
        configs: as `dd.config.read` gives them.
        lenient: leave out every row that can't be run, not only the impossible pairs of a grid.

    Raises:
        UserError: for what a user can put right; with `lenient`, of a row when no row can be run.
    """
    rows, left_out = _rows(configs, lenient)
    _require_one_setting(configs)
    settings = config.settings(configs[0])
    store = Store.open(settings.store, settings.store_layers)
    plan = pipeline.Plan(rows, store, keep_stale=settings.keep_stale)
    device = config.use_device(settings.device)
    return Prepared(settings, plan, device, devices.alike(), left_out)


def show(configs: Sequence[dict[str, Any]]) -> None:
    """Print the plan of a sweep.

    Args:
        configs: as `dd.config.read` gives them.

    Raises:
        UserError: see `prepare`.
    """
    prepared = prepare(configs, lenient=True)
    prepared.tell()
    if prepared.plan.pending():
        progress.say("\n" + _table(prepared.plan, prepared.device))
    progress.say(f"\nNothing was run. Results: {prepared.plan.store.root}")


def _rows(configs: Sequence[dict[str, Any]], lenient: bool) -> tuple[list[Eval], dict[str, int]]:
    """All rows that can be run, and how many configurations were left out for what reason."""
    grid = all(
        len({str(each["eval"].get(name)) for each in configs}) > 1 for name in ("inference_delay", "execute_horizon")
    )
    builder, rows = config.Builder(), []
    left_out: collections.Counter[str] = collections.Counter()
    first: UserError | None = None
    for each in configs:
        try:
            rows += builder.build(each)
        except UserError as problem:
            pair = isinstance(problem, ImpossiblePairError)
            if not lenient and not (pair and grid):
                raise
            first = first or problem
            left_out[_IMPOSSIBLE if pair else str(problem)] += 1
    if first is not None and not rows:
        raise first
    return rows, dict(left_out)


def _require_one_setting(configs: Sequence[dict[str, Any]]) -> None:
    for name in config.SETTINGS:
        if any(each[name] != configs[0][name] for each in configs):
            raise UserError(f"{name}: holds for a whole sweep; give it one value, or run one command for each")


def _table(plan: pipeline.Plan, device: str) -> str:
    """A line for each kind of stage: rows, programs, the rows that share one, and time as far as it is known."""
    kinds: dict[str, list[tuple[pipeline.Row, float | None]]] = {}
    for row, seconds in plan.times(device):
        kinds.setdefault(row.stage.kind, []).append((row, seconds))
    lines = [("stage", "to run", "programs", "rows of a program", f"time ({device})")]
    for kind, timed in kinds.items():
        packs = collections.Counter(row.program for row, _ in timed).values()
        each = str(min(packs)) if min(packs) == max(packs) else f"{min(packs)} to {max(packs)}"
        lines.append((kind, f"{len(timed):,}", f"{len(packs):,}", each, _told([seconds for _, seconds in timed])))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _told(seconds: Sequence[float | None]) -> str:
    """The time of all; rows of a program that has not run here before are unknown."""
    known = [each for each in seconds if each is not None]
    if not known:
        return "unknown"
    told = f"{progress.duration(sum(known))} ({progress.duration(statistics.mean(known))} each)"
    return told if len(known) == len(seconds) else f"{told}, {len(seconds) - len(known):,} unknown"
