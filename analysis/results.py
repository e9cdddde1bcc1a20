"""results.csv: one row per run, the reference's seven columns first; written whole, read with care.

What a machine took stands beside it in timings.csv, so that equal runs have equal results.
"""

import contextlib
import csv
import io
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dd.errors import UserError

COLUMNS = (
    "returned_episode_lengths",
    "returned_episode_returns",
    "returned_episode_solved",
    "delay",
    "method",
    "level",
    "execute_horizon",
    "seed",
    "num_flow_steps",
    "num_evals",
    "key",
)
# What tells one run from another. `epoch` is that of the parameters; a file without it has those after the last one.
CELL = ("level", "method", "delay", "execute_horizon", "num_flow_steps", "epoch", "seed")
TIMINGS = ("latency_ms", "device")  # of a chunk at batch 1, and what computed it
_TEXTS = ("method", "level", "key", "epoch")
_MEANS = COLUMNS[:3]
_COUNTS = ("delay", "execute_horizon", "seed", "num_flow_steps", "num_evals")


def publish(path: pathlib.Path, data: bytes) -> None:
    """Make `data` the content of `path`, whole or not at all.

    Raises:
        UserError: the folder can't be made or written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path} can't be written ({error.strerror}): name a folder that can be") from error


def write_results(rows: Sequence[Mapping[str, Any]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Write `folder`/results.csv, one line per run, and return its path; `TIMINGS` go into timings.csv.

    Args:
        rows: each holds `COLUMNS`; what it holds beyond them follows as further columns, in order of first appearance.
        folder: the sweep's folder, made if it isn't there.

    Raises:
        ValueError: a row lacks one of `COLUMNS`.
        UserError: the folder can't be written.
    """
    names = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row if name not in TIMINGS)]))
    for row in rows:
        if missing := [name for name in COLUMNS if name not in row]:
            raise ValueError(f"row {row.get('key')} lacks {', '.join(missing)}")
    path = pathlib.Path(folder) / "results.csv"
    if any(name in row for row in rows for name in TIMINGS):
        publish(path.with_name("timings.csv"), _text(rows, ["key", *TIMINGS]))
    publish(path, _text(rows, names))
    return path


def _text(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def find_sweep(name: str | os.PathLike[str]) -> pathlib.Path:
    """The results.csv that `name` means: a file, a sweep's folder, or `latest`, the newest sweep under outputs/.

    Raises:
        UserError: there is none.
    """
    path = pathlib.Path(name)
    if str(name) == "latest" and not path.exists():
        found = list(pathlib.Path("outputs").glob("*/latest/results.csv"))
        if not found:
            raise UserError("latest: no sweep under outputs/ has a results.csv yet; run one, or name a sweep's folder")
        return max(found, key=lambda file: file.stat().st_mtime)
    path = path / "results.csv" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a sweep's folder, a results.csv, or latest")
    return path


def read_results(name: str | os.PathLike[str]) -> pd.DataFrame:
    """One row per run, in the file's order, with its timings where timings.csv has them; a run twice there counts once.

    Args:
        name: what `find_sweep` takes.

    Raises:
        UserError: the file is missing, empty, cut off or lacks a column; a number is not one or out of range; two runs
            claim the same cell, or one key has two results.
    """
    path = find_sweep(name)
    frame = _parse(path)
    for column in (*_MEANS, *_COUNTS):
        frame[column] = _numbers(path, frame[column], whole=column in _COUNTS)
    outside = ~frame.returned_episode_solved.between(0, 1)
    if outside.any():
        wrong = frame[outside].iloc[0]
        raise UserError(
            f"{path}: returned_episode_solved={wrong.returned_episode_solved:g} (key {wrong.key}) is not a rate: 0..1"
        )
    return _timed(path.with_name("timings.csv"), _without_repeats(path, frame))


def _timed(path: pathlib.Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with `TIMINGS`; without the file, or where it breaks off, with none: no result hangs on it."""
    try:
        timings = pd.read_csv(path, dtype={"key": str}, usecols=["key", *TIMINGS]).drop_duplicates("key")
    except (OSError, ValueError):
        return frame
    return frame.merge(timings, on="key", how="left", validate="many_to_one")


def _parse(path: pathlib.Path) -> pd.DataFrame:
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read as text ({type(error).__name__}): a results.csv is needed") from error
    lines = list(csv.reader(io.StringIO(text)))
    if len(lines) < 2:
        raise UserError(f"{path} is empty: it has no runs; run the sweep again, it redoes only what is missing")
    if missing := [column for column in COLUMNS if column not in lines[0]]:
        raise UserError(f"{path} lacks the column(s) {', '.join(missing)}: a results.csv has {', '.join(COLUMNS)}")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(lines[0]):
            raise UserError(
                f"{path} line {number} has {len(line)} fields instead of {len(lines[0])}: "
                "the file is cut off or edited; run the sweep again to rewrite it"
            )
    if not text.endswith("\n"):
        raise UserError(f"{path} breaks off in its last line: run the sweep again to rewrite it (or end that line)")
    frame = pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False)
    return frame if "epoch" in frame else frame.assign(epoch="last")


def _numbers(path: pathlib.Path, values: pd.Series, *, whole: bool) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    wrong = ~numbers.abs().lt(float("inf")) | (whole & (numbers % 1 != 0))
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        kind = "a whole number" if whole else "a finite number"
        raise UserError(f"{path} line {row + 2}: {values.name}={values.iloc[row]!s} is not {kind}; leave that run out")
    return numbers.astype("int64") if whole else numbers


def _without_repeats(path: pathlib.Path, frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.drop_duplicates(["key", *CELL, *_MEANS]).reset_index(drop=True)
    if (twice := frame.key.duplicated()).any():
        raise UserError(f"{path}: key {frame.key[twice].iloc[0]} stands there with two different results; remove one")
    if (twice := frame.duplicated(list(CELL))).any():
        cell = frame.loc[twice, list(CELL)].iloc[0]
        keys = frame.key[(frame[list(CELL)] == cell).all(axis=1)]
        where = f"{cell.level} {cell.method} d={cell.delay} s={cell.execute_horizon} seed={cell.seed}"
        raise UserError(
            f"{path}: {where} has {len(keys)} runs that differ elsewhere (keys {', '.join(keys)}): "
            "a table has room for one; split the sweep, or give each its own method name"
        )
    return frame


@contextlib.contextmanager
def ending_in_one_line() -> Iterator[None]:
    """Turn a `UserError` into one line on stderr and exit code 2."""
    try:
        yield
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
