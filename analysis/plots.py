"""Figures of a sweep, column width, for print and for readers who don't see every colour.

`python -m analysis.plots SWEEP` (a folder, a results.csv, or `latest`) draws delay_curve.png beside results.csv.
"""

import argparse
import hashlib
import io
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.results import ending_in_one_line, find_sweep, publish, read_results
from analysis.tables import SHORTEST, Row, Table, delay_table

COLUMN = (3.4, 2.9)  # inches: one column of a two-column paper
_SMALL, _TINY = 8, 6.5  # points
_STEP = 0.07  # of a delay, from line to line


class Look(NamedTuple):
    """How a method is drawn, in every figure."""

    colour: str
    marker: str
    dashes: tuple[float, ...]


_SOLID = (1.0, 0.0)
LOOKS = {  # Okabe and Ito's colours
    "naive": Look("#000000", "o", (4.0, 1.5)),
    "hard_masking": Look("#E69F00", "s", (1.5, 1.0)),
    "realtime": Look("#0072B2", "^", _SOLID),
    "bid": Look("#009E73", "D", (5.0, 1.0, 1.0, 1.0)),
    "prefix": Look("#CC79A7", "v", (8.0, 2.0)),
}
_OTHERS = tuple(
    Look(colour, marker, _SOLID)
    for colour in ("#D55E00", "#56B4E9", "#882255", "#999933", "#332288", "#661100")
    for marker in ("P", "X", "<", ">", "h")
)


def look(method: str) -> Look:
    """The method's own look; one that isn't among `LOOKS` gets what its name hashes to, the same everywhere."""
    digest = hashlib.sha256(method.encode()).digest()
    return LOOKS.get(method) or _OTHERS[int.from_bytes(digest[:4]) % len(_OTHERS)]


def delay_curve(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Draw solve rate by inference delay as PNG: a line per decode, a band of ± one std over seeds.

    The numbers are those of `tables.delay_table`. Where runs with s = max(1, d) exist, these alone are drawn. A point
    that lacks seeds is hollow; a cell without a complete seed is a gap.

    Args:
        frame: as `read_results` gives it.
        path: the file to write, whole or not at all.

    Raises:
        UserError: it can't be written.
    """
    figure = Figure(figsize=COLUMN, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    table = delay_table(frame)
    rows = [row for row in table.rows if row.names["s"] == SHORTEST] or table.rows
    for index, row in enumerate(rows):
        _line(axes, table, row, _name(row, rows), _STEP * (index - (len(rows) - 1) / 2), _strength(row, rows))
    _frame(axes, table)
    figure.suptitle(table.title, fontsize=_SMALL)
    figure.supxlabel(_caption(table, rows), fontsize=_TINY)
    columns = 3 if max(len(_name(row, rows)) for row in rows) < 16 else 2
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        fontsize=_TINY,
        frameon=False,
        handlelength=3.2,
        columnspacing=1.2,
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=300, metadata={"Software": None})
    publish(pathlib.Path(path), drawn.getvalue())


def _strength(row: Row, rows: Sequence[Row]) -> float:
    """Opacity: a method's second, third ... line is paler."""
    kin = [each for each in rows if each.names["method"] == row.names["method"]]
    return 1 / (1 + 0.9 * kin.index(row))


def _line(axes: Axes, table: Table, row: Row, name: str, shift: float, strength: float) -> None:
    """One decode's line; lines are shifted a little to the side, so that equal rates stay apart."""
    colour, marker, dashes = look(row.names["method"])
    delays = np.array(table.delays) + shift
    mean, std = np.array([(cell.mean, cell.std) for cell in row.cells]).T
    low, high = np.clip(mean - std, 0, 1), np.clip(mean + std, 0, 1)
    drawn = {"color": colour, "marker": marker, "markersize": 4.5, "markeredgewidth": 0.6, "alpha": strength}
    axes.fill_between(delays, low, high, color=colour, alpha=0.15 * strength, linewidth=0)
    axes.vlines(delays, low, high, color=colour, alpha=strength, linewidth=0.7)
    axes.plot(delays, mean, **drawn, markeredgecolor="white", dashes=dashes, linewidth=1.3, label=name)
    partial = np.array([cell.seeds < table.seeds for cell in row.cells])
    axes.plot(delays[partial], mean[partial], **{**drawn, "alpha": 1}, markerfacecolor="white", linestyle="")


def _name(row: Row, rows: Sequence[Row]) -> str:
    """The method, and what else tells its lines apart."""
    parts = [row.names["method"]]
    parts += [f"s = {row.names['s']}"] if len({each.names["s"] for each in rows}) > 1 else []
    several = len({each.names["num_flow_steps"] for each in rows}) > 1
    return ", ".join([*parts, f"{row.names['num_flow_steps']} steps"] if several else parts)


def _frame(axes: Axes, table: Table) -> None:
    axes.set_xlabel("inference delay d (env steps)", fontsize=_SMALL)
    axes.set_ylabel("solve rate", fontsize=_SMALL)
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_xticks(table.delays)
    axes.tick_params(labelsize=_SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def _caption(table: Table, rows: Sequence[Row]) -> str:
    counts = {cell.seeds for row in rows for cell in row.cells}
    band = "mean ± std over seeds; " if max(counts) > 1 else ""
    horizons, steps = ({row.names[name] for row in rows} for name in ("s", "num_flow_steps"))
    held = [f"s = {horizons.pop()}"] if len(horizons) == 1 else []
    held += [f"{steps.pop()} flow steps"] if len(steps) == 1 else []
    held += ["hollow: seeds missing"] if counts - {0, table.seeds} else []
    held += ["gap: no complete seed"] if 0 in counts else []
    return f"{band}n = {table.sample}\n{', '.join(held)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.plots", description="Figures of a sweep.")
    parser.add_argument("sweep", help="a sweep's folder, a results.csv, or latest")
    with ending_in_one_line():
        path = find_sweep(parser.parse_args(arguments).sweep)
        delay_curve(read_results(path), path.with_name("delay_curve.png"))
        print(path.with_name("delay_curve.png"))


if __name__ == "__main__":
    main()
