"""Solve rate by inference delay, or by epoch: mean ± std over seeds of the mean over levels, holes shown as holes.

`python -m analysis.tables SWEEP` prints the table of a sweep (a folder, a results.csv, or `latest`) and rewrites its
table.md.
"""

import argparse
import dataclasses
import os
import pathlib
import textwrap
from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.results import ending_in_one_line, find_sweep, publish, read_results, write_results
from dd.env.benchmark import LEVELS

__all__ = [
    "Cell",
    "Row",
    "Table",
    "delay_table",
    "epoch_table",
    "level_table",
    "read_results",
    "to_markdown",
    "to_terminal",
    "write_results",
    "write_table",
]

WIDTH = 100  # columns of a terminal
SHORTEST = "max(1, d)"  # the execute horizon of the published tables
_LABELS = {"level": "level", "method": "method", "delay": "d", "s": "s", "steps": "steps", "epoch": "epoch"}
_ALWAYS = ("level", "method", "delay")  # the other labels are shown where they differ
_COSTS = {"network_evaluations": ("evaluations", "{:.1f}"), "latency_ms": ("ms", "{:.1f}")}
_ACROSS = {"delay": ("inference delay d", "d"), "epoch": ("epoch", "epoch")}  # what columns are, in full and in short


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method at one delay, or after one epoch.

    Attributes:
        mean: solve rate, mean over `seeds` seeds of the mean over levels; NaN without a complete seed.
        std: standard deviation over those seeds (ddof 1); NaN below two seeds.
        seeds: complete seeds, that is those with a run on every level; only they count.
        started: seeds with at least one run.
    """

    mean: float = float("nan")
    std: float = float("nan")
    seeds: int = 0
    started: int = 0


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: its labels (one per `Table.labels`), what they say by name, its costs, a cell per column.

    Costs are means over the line's runs: `network_evaluations` of a chunk, `latency_ms` of one at batch 1, where known.
    """

    labels: tuple[str, ...]
    names: dict[str, str]
    costs: dict[str, float]
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """Solve rates by delay or by epoch, ready to be written down or drawn.

    Attributes:
        title: what it shows.
        labels: headings of the columns that name a row.
        across: what the other columns are, `d` or `epoch`.
        columns: its values, a column each.
        rows: one per method (and level, execute horizon, flow steps, where several occur).
        seeds: seeds that a whole cell has.
        sample: what n is, in one line.
        footer: how to read it, and what not to read into it.
    """

    title: str
    labels: tuple[str, ...]
    across: str
    columns: tuple[int, ...]
    rows: tuple[Row, ...]
    seeds: int
    sample: str
    footer: tuple[str, ...]


def delay_table(frame: pd.DataFrame) -> Table:
    """Rows are methods, columns delays; cells average the levels, then the seeds.

    Several execute horizons, `num_flow_steps` or epochs are never averaged: each gets a row. A run with s = max(1, d)
    that also belongs to a fixed s stands in both rows. Where the steps follow from the delay, the runs stand in one row
    that names the steps of each.

    Args:
        frame: as `read_results` gives it.
    """
    return _table(frame, ("method", "s", "steps", "epoch"), levels=frame.level.nunique())


def level_table(frame: pd.DataFrame) -> Table:
    """As `delay_table`, each level in rows of its own."""
    return _table(frame, ("level", "method", "s", "steps", "epoch"), levels=1)


def epoch_table(frame: pd.DataFrame) -> Table | None:
    """As `delay_table`, with a row per method and delay and a column per epoch; None where there are no two epochs."""
    numbered = frame[frame.epoch.str.isdecimal()]
    if numbered.epoch.nunique() < 2:
        return None
    return _table(numbered, ("method", "delay", "s", "steps"), levels=numbered.level.nunique(), across="epoch")


def _table(frame: pd.DataFrame, by: tuple[str, ...], levels: int, across: str = "delay") -> Table:
    ruled = _with_steps(_with_horizons(frame))
    ruled = ruled.sort_values("level", kind="stable") if "level" in by else ruled
    names = ruled[list(by)].astype(str).drop_duplicates().to_dict("records")
    shown = [name for name in by if name in _ALWAYS or ruled[name].nunique() > 1]
    columns = tuple(sorted(map(int, frame[across].unique())))
    seeds = frame.seed.nunique()
    cells = _cells(ruled, by, levels, across)
    costs = _costs(ruled, by)
    told = [name for name in _COSTS if _differ(name, costs.values())] if _cost_matters(ruled, costs.values()) else []
    rows = tuple(
        Row(
            labels=(
                *(name[column] for column in shown),
                *(_COSTS[each][1].format(costs[tuple(name.values())][each]) for each in told),
            ),
            names=name,
            costs=costs[tuple(name.values())],
            cells=tuple(cells.get((*name.values(), str(column)), Cell()) for column in columns),
        )
        for name in names
    )
    place = f", {frame.level.iloc[0]}" if frame.level.nunique() == 1 else ", by level" if "level" in by else ""
    sample = _sample(frame, seeds, levels)
    full, short = _ACROSS[across]
    return Table(
        title=f"Solve rate by {full}{place}",
        labels=(*(_LABELS[column] for column in shown), *(_COSTS[each][0] for each in told)),
        across=short,
        columns=columns,
        rows=rows,
        seeds=seeds,
        sample=sample,
        footer=(
            _reading(ruled, seeds, levels, sample),
            *_explained(ruled, told),
            *_holes(rows, seeds, levels),
            *_provenance(frame),
        ),
    )


def _with_horizons(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the column s: `max(1, d)` for the runs that follow that rule, and each fixed s that breaks it."""
    parts = []
    for _, runs in frame.groupby("method", sort=False):
        shortest = runs.execute_horizon == runs.delay.clip(lower=1)
        fixed = sorted(runs.execute_horizon[~shortest].unique())
        if not runs.execute_horizon.isin(fixed).all():
            parts.append(runs[shortest].assign(s=SHORTEST))
        parts += [runs[runs.execute_horizon == s].assign(s=str(s)) for s in fixed]
    return pd.concat(parts)


def _with_steps(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the column steps: a number, or for a method whose steps follow from the delay those of each."""
    parts = []
    for _, runs in frame.groupby(["method", "s", "epoch"], sort=False):
        by_delay = runs.groupby("delay").num_flow_steps.unique()
        follow = runs.num_flow_steps.nunique() > 1 and by_delay.map(len).eq(1).all()
        told = ", ".join(str(each[0]) for each in by_delay) if follow else runs.num_flow_steps.astype(str)
        parts.append(runs.assign(steps=told))
    return pd.concat(parts)


def _costs(frame: pd.DataFrame, by: tuple[str, ...]) -> dict[tuple[str, ...], dict[str, float]]:
    known = [name for name in _COSTS if name in frame]
    return {
        tuple(map(str, name)): {each: float(pd.to_numeric(runs[each], errors="coerce").mean()) for each in known}
        for name, runs in frame.groupby(list(by), sort=False)
    }


def _cost_matters(frame: pd.DataFrame, costs: Iterable[dict[str, float]]) -> bool:
    """Whether lines differ in what a chunk takes, by design and not by noise."""
    return frame.steps.nunique() > 1 or _differ("network_evaluations", costs)


def _differ(name: str, costs: Iterable[dict[str, float]]) -> bool:
    known = {_COSTS[name][1].format(each[name]) for each in costs if name in each}
    return len(known) > 1 and "nan" not in known


def _explained(frame: pd.DataFrame, told: Sequence[str]) -> tuple[str, ...]:
    """What the costs are."""
    lines = ["evaluations: of the network, per chunk, mean."] if "network_evaluations" in told else []
    if "latency_ms" in told:
        where = " and ".join(sorted(frame.device.dropna().unique())) if "device" in frame else "this device"
        lines.append(f"ms: latency of a chunk at batch 1 on {where}, mean.")
    return tuple(lines)


def _cells(frame: pd.DataFrame, by: tuple[str, ...], levels: int, across: str) -> dict[tuple[str, ...], Cell]:
    cells = {}
    for name, runs in frame.groupby([*by, across], sort=False):
        seeds = runs.groupby("seed").agg(solved=("returned_episode_solved", "mean"), levels=("level", "nunique"))
        solved = seeds.solved[seeds.levels == levels]
        cells[tuple(map(str, name))] = Cell(solved.mean(), solved.std(ddof=1), len(solved), len(seeds))
    return cells


def _counted(number: int | str, noun: str) -> str:
    return f"{number} {noun}{'' if str(number) == '1' else 's'}"


def _sample(frame: pd.DataFrame, seeds: int, levels: int) -> str:
    least, most = frame.num_evals.min(), frame.num_evals.max()
    episodes = _counted(least if least == most else f"{least} to {most}", "episode")
    return f"{_counted(seeds, 'seed')} x {_counted(levels, 'level')} x {episodes}"


def _reading(ruled: pd.DataFrame, seeds: int, levels: int, sample: str) -> str:
    total = f" ({seeds * levels * ruled.num_evals.iloc[0]} episodes a cell)" if ruled.num_evals.nunique() == 1 else ""
    horizon = f"; s = {ruled.s.iloc[0]}" if ruled.s.nunique() == 1 else ""
    steps = f"; {_counted(ruled.steps.iloc[0], 'flow step')}" if ruled.steps.nunique() == 1 else ""
    steps += " by delay" if "," in steps else ""
    mean = "Mean ± std over seeds (ddof 1) of the mean over levels" if levels > 1 else "Mean ± std over seeds (ddof 1)"
    alone = "; one seed has no std (n/a)" if seeds == 1 else ""
    return f"{mean}; n = {sample}{total}{horizon}{steps}{alone}."


def _holes(rows: tuple[Row, ...], seeds: int, levels: int) -> tuple[str, ...]:
    cells = [cell for row in rows for cell in row.cells]
    incomplete = any(cell.started and cell.seeds < seeds for cell in cells)
    whole = f"that have all {levels} levels" if levels > 1 else "that are there"
    lines = [f"k/{seeds}: only k of {_counted(seeds, 'seed')} counted, those {whole}."] if incomplete else []
    return (*lines, "— no run.") if any(not cell.started for cell in cells) else tuple(lines)


def _provenance(frame: pd.DataFrame) -> tuple[str, ...]:
    """Names the levels that bear a benchmark's name with other content."""
    if "published_level" not in frame:
        return ()
    other = frame.level[frame.published_level.astype(str).str.lower() == "false"].drop_duplicates()
    other = sorted(level for level in other if pathlib.PurePosixPath(level).stem in LEVELS)
    if not other:
        return ()
    what = "is kinetix-env's version of that level" if len(other) == 1 else "are kinetix-env's versions of those levels"
    return (f"{', '.join(other)} here {what}, not the benchmark's: not comparable with published figures.",)


def rate(value: float) -> str:
    """A solve rate to three digits, `.914`; n/a for NaN."""
    return "n/a" if value != value else f"{value:.3f}".removeprefix("0")


def _text(cell: Cell, seeds: int) -> str:
    if not cell.started:
        return "—"
    count = f" {cell.seeds}/{seeds}" if cell.seeds < seeds else ""
    return f"{rate(cell.mean)} ± {rate(cell.std)}{count}" if cell.seeds else f"—{count}"


def _grid(table: Table) -> list[list[str]]:
    head = [*table.labels, *(f"{table.across} = {column}" for column in table.columns)]
    return [head, *([*row.labels, *(_text(cell, table.seeds) for cell in row.cells)] for row in table.rows)]


def to_markdown(table: Table) -> str:
    """The table as GitHub's markdown, its footer beneath."""
    head, *body = _grid(table)
    rule = [":--"] * len(table.labels) + ["--:"] * len(table.columns)
    lines = ["| " + " | ".join(line) + " |" for line in (head, rule, *body)]
    return "\n".join([f"**{table.title}**", "", *lines, "", "  \n".join(table.footer), ""])


def to_terminal(table: Table) -> str:
    """The table as aligned text of at most 100 columns; columns that don't fit beside each other follow beneath."""
    grid = _grid(table)
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    names = len(table.labels)
    panels: list[list[int]] = [[]]
    for column in range(names, len(widths)):
        taken = [*range(names), *panels[-1], column]
        if panels[-1] and sum(widths[each] for each in taken) + 2 * (len(taken) - 1) > WIDTH:
            panels.append([])
        panels[-1].append(column)
    lines = [table.title]
    for panel in panels:
        lines.append("")
        for line in grid:
            left = [line[column].ljust(widths[column]) for column in range(names)]
            lines.append("  ".join([*left, *(line[column].rjust(widths[column]) for column in panel)]).rstrip())
    return "\n".join([*lines, "", *(part for line in table.footer for part in textwrap.wrap(line, WIDTH))])


def write_table(frame: pd.DataFrame, folder: str | os.PathLike[str]) -> str:
    """Write `folder`/table.md (by level too where there are several) and return the same as text for the terminal.

    Raises:
        UserError: the folder can't be written.
    """
    tables = [delay_table(frame)] + ([level_table(frame)] if frame.level.nunique() > 1 else [])
    publish(pathlib.Path(folder) / "table.md", "\n".join(map(to_markdown, tables)).encode())
    return "\n\n".join(map(to_terminal, tables))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.tables", description="Solve rate by inference delay.")
    parser.add_argument("sweep", help="a sweep's folder, a results.csv, or latest")
    with ending_in_one_line():
        path = find_sweep(parser.parse_args(arguments).sweep)
        print(write_table(read_results(path), path.parent))


if __name__ == "__main__":
    main()
