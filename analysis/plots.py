"""Figures of a sweep, column width, for print and for readers who don't see every colour.

`python -m analysis.plots SWEEP` (a folder, a results.csv, or `latest`) draws delay_curve.png beside results.csv, and
where the sweep has several of them epoch_curve.png and latency_curve.png.
"""

import argparse
import dataclasses
import hashlib
import io
import os
import pathlib
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from analysis.results import ending_in_one_line, find_sweep, publish, read_results
from analysis.tables import SHORTEST, Cell, Row, Table, delay_table, epoch_table

COLUMN = (3.4, 2.9)  # inches: one column of a two-column paper; each further line of the legend adds to its height
_SMALL, _TINY = 8, 6.5  # points
_LEGEND_LINE, _HANDLE = 0.14, 0.45  # inches, in a legend
_WRAP = 46  # characters that fit beside a handle, or in a title
_STEP, _SPREAD = 0.07, 0.3  # of the distance between columns: from line to line, and all of them at most


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


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """A look for each of a figure's methods: its own, or where another of them has that colour the next free one."""
    chosen: dict[str, Look] = {}
    for method in dict.fromkeys(methods):
        own = look(method)
        start = _OTHERS.index(own) if own in _OTHERS else 0
        others = (*_OTHERS[start:], *_OTHERS[:start])
        colours, taken = {each.colour for each in chosen.values()}, set(chosen.values())
        free = [each for each in (own, *others) if each.colour not in colours]
        free += [each for each in (own, *others) if each not in taken]
        chosen[method] = free[0] if free else own
    return chosen


def draw(frame: pd.DataFrame, folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Draw every figure that a sweep's runs are enough for, and return the files.

    Args:
        frame: as `read_results` gives it.
        folder: where delay_curve.png, epoch_curve.png (several epochs) and latency_curve.png (several costs) are put,
            each whole or not at all.

    Raises:
        UserError: they can't be written.
    """
    delays, epochs = delay_table(frame), epoch_table(frame)
    drawn = {"delay_curve": _curve(delays, "inference delay d (env steps)")}
    if epochs:
        drawn["epoch_curve"] = _curve(epochs, "epoch")
    if costs := _by_cost(delays):
        drawn["latency_curve"] = _latency_curve(delays, costs)
    files = [pathlib.Path(folder) / f"{name}.png" for name in drawn]
    for file, figure in zip(files, drawn.values(), strict=True):
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=300, metadata={"Software": None})
        publish(file, image.getvalue())
    return files


def _curve(table: Table, across: str) -> Figure:
    """Solve rate by the table's columns: a line per row, a band of ± one std over seeds.

    Where runs with s = max(1, d) exist, these alone are drawn. A point that lacks seeds is hollow; a cell without a
    complete seed is a gap.
    """
    rows = [row for row in table.rows if row.names["s"] == SHORTEST] or list(table.rows)
    lines, step = {}, min(_STEP, _SPREAD / len(rows)) * min(np.diff(table.columns), default=1)
    for index, row in enumerate(rows):
        shift = step * (index - (len(rows) - 1) / 2)  # to the side, so that equal rates stay apart
        lines[_name(row, rows)] = row.names["method"], np.array(table.columns) + shift, row.cells
    figure = _figure(table, rows, lines, across)
    figure.axes[0].set_xticks(table.columns)
    return figure


def _by_cost(table: Table) -> dict[str, list[Row]]:
    """The rows of each method that has several, with latencies that are known, the quickest first."""
    methods: dict[str, list[Row]] = {}
    for row in table.rows:
        if (
            row.names["s"] == SHORTEST
            and row.names["steps"].isdecimal()
            and np.isfinite(row.costs.get("latency_ms", np.nan))
        ):
            methods.setdefault(row.names["method"], []).append(row)
    return {
        method: sorted(rows, key=lambda row: row.costs["latency_ms"])
        for method, rows in methods.items()
        if len({row.names["steps"] for row in rows}) > 1 and len({row.names["epoch"] for row in rows}) == 1
    }


def _latency_curve(table: Table, methods: dict[str, list[Row]]) -> Figure:
    """Solve rate by what a chunk takes at batch 1: a line per method and delay, a point per number of steps."""
    lines = {
        f"{method}, d = {delay}": (
            method,
            np.array([row.costs["latency_ms"] for row in rows]),
            tuple(row.cells[place] for row in rows),
        )
        for method, rows in methods.items()
        for place, delay in enumerate(table.columns)
    }
    rows = [row for kin in methods.values() for row in kin]
    named = dataclasses.replace(table, title=table.title.replace("inference delay d", "latency"))
    figure = _figure(named, rows, lines, "latency at batch 1 (ms); above it: flow steps")
    figure.axes[0].set_xlim(left=0)
    for row in rows:
        place = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "fontsize": _TINY}
        figure.axes[0].annotate(row.names["steps"], (row.costs["latency_ms"], 0.0), **place)
    return figure


def _figure(
    table: Table,
    rows: Sequence[Row],
    lines: dict[str, tuple[str, Float[np.ndarray, " n"], tuple[Cell, ...]]],
    across: str,
) -> Figure:
    """Lines by name: whose look they bear, where their points stand, and their cells."""
    shared, labels = _labels(list(lines))
    written = [TextPath((0, 0), line, size=_TINY) for label in labels for line in label.split("\n")]
    widest = max(text.get_extents().width for text in written) / 72
    columns = int(np.clip(COLUMN[0] // (_HANDLE + widest), 1, 3))
    height = -(-len(labels) // columns) * max(label.count("\n") + 1 for label in labels) + len(shared) - 1
    figure = Figure(figsize=(COLUMN[0], COLUMN[1] + _LEGEND_LINE * height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    seen: dict[str, int] = {}
    styles = looks(method for method, _, _ in lines.values())
    for label, (method, places, cells) in zip(labels, lines.values(), strict=True):
        strength = 1 / (1 + 0.9 * seen.get(method, 0))  # a method's second, third ... line is paler
        seen[method] = seen.get(method, 0) + 1
        _line(axes, table, cells, places, label, styles[method], strength)
    axes.set_xlabel(across, fontsize=_SMALL)
    axes.set_ylabel("solve rate", fontsize=_SMALL)
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.tick_params(labelsize=_SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    figure.supxlabel(_caption(table, rows), fontsize=_TINY)
    legend = figure.legend(
        loc="outside upper center",
        ncols=columns,
        title="\n".join([table.title, *shared]),
        title_fontproperties={"size": _SMALL},
        fontsize=_TINY,
        frameon=False,
        handlelength=3.2,
        columnspacing=1.2,
    )
    legend.get_title().set_multialignment("center")
    return figure


def _labels(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """What all names share, as lines for the title, and the rest of each, broken where it is wider than a figure."""
    parts = [re.split(r", | (?=\w\S*=)", name) for name in names]
    shared = [part for part in parts[0] if all(part in each for each in parts)] if len(parts) > 1 else []
    if not all(set(each) - set(shared) for each in parts):
        shared = []
    rest = [", ".join(part for part in each if part not in shared) for each in parts]
    return textwrap.wrap(", ".join(shared), _WRAP), ["\n".join(textwrap.wrap(each, _WRAP)) for each in rest]


def _line(
    axes: Axes,
    table: Table,
    cells: Sequence[Cell],
    places: Float[np.ndarray, " n"],
    name: str,
    drawn_as: Look,
    strength: float,
) -> None:
    colour, marker, dashes = drawn_as
    mean, std = np.array([(cell.mean, cell.std) for cell in cells]).T
    low, high = np.clip(mean - std, 0, 1), np.clip(mean + std, 0, 1)
    drawn = {"color": colour, "marker": marker, "markersize": 4.5, "markeredgewidth": 0.6, "alpha": strength}
    axes.fill_between(places, low, high, color=colour, alpha=0.15 * strength, linewidth=0)
    axes.vlines(places, low, high, color=colour, alpha=strength, linewidth=0.7)
    axes.plot(places, mean, **drawn, markeredgecolor="white", dashes=dashes, linewidth=1.3, label=name)
    partial = np.array([cell.seeds < table.seeds for cell in cells])
    axes.plot(places[partial], mean[partial], **{**drawn, "alpha": 1}, markerfacecolor="white", linestyle="")


def _name(row: Row, rows: Sequence[Row]) -> str:
    """The method, and what else tells its lines apart."""

    def several(name: str) -> bool:
        return len({each.names.get(name) for each in rows}) > 1

    parts = [row.names["method"]]
    parts += [f"d = {row.names['delay']}"] if "delay" in row.names else []
    parts += [f"s = {row.names['s']}"] if several("s") else []
    parts += [f"{row.names['steps']} steps"] if several("steps") else []
    return ", ".join([*parts, f"epoch {row.names['epoch']}"] if several("epoch") else parts)


def _caption(table: Table, rows: Sequence[Row]) -> str:
    counts = {cell.seeds for row in rows for cell in row.cells}
    band = "mean ± std over seeds; " if max(counts) > 1 else ""
    horizons, steps = ({row.names[name] for row in rows} for name in ("s", "steps"))
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
        print(*draw(read_results(path), path.parent), sep="\n")


if __name__ == "__main__":
    main()
