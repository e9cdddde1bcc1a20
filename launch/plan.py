"""`hydra/launcher=plan`: what a sweep would run, and how long that takes; nothing is run and nothing written."""

import collections
import statistics
from collections.abc import Sequence
from typing import Any

from dd import config, pipeline, progress
from dd.errors import ImpossiblePairError, UserError
from dd.stage.eval import Eval
from dd.store import Store


def show(configs: Sequence[dict[str, Any]]) -> None:
    """Print the plan of a sweep.

    Args:
        configs: as `dd.config.read` gives them.

    Raises:
        UserError: when no row of it can be run, or the store can't be read.
    """
    rows, refused = _rows(configs)
    settings = config.settings(configs[0])
    store = Store.open(settings.store, settings.store_layers)
    plan = pipeline.Plan(rows, store, keep_stale=settings.keep_stale)
    device = config.use_device(settings.device)
    progress.say(plan.first_line(device))
    for reason, count in refused.items():
        progress.say(f"{count} rows are left out: {reason}")
    for line in plan.notices():
        progress.say(line)
    if plan.pending():
        progress.say("\n" + _table(plan, device))
    progress.say(f"\nNothing was run. Results: {store.root}")


def _rows(configs: Sequence[dict[str, Any]]) -> tuple[list[Eval], dict[str, int]]:
    """The rows that can be run, and how many can't for what reason."""
    builder, rows = config.Builder(), []
    refused: collections.Counter[str] = collections.Counter()
    first: UserError | None = None
    for each in configs:
        try:
            rows += builder.build(each)
        except UserError as problem:
            first = first or problem
            pair = isinstance(problem, ImpossiblePairError)
            refused["their inference_delay and execute_horizon exclude each other" if pair else str(problem)] += 1
    if first is not None and not rows:
        raise first
    return rows, dict(refused)


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
