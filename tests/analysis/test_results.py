"""results.csv: what is written is read back; what can't be trusted is refused in one line."""

import os
import subprocess
import sys

import numpy as np
import pytest

from analysis import plots, stats, tables
from analysis.results import COLUMNS, find_sweep, publish, read_results, write_results
from dd.errors import UserError
from tests.analysis import sweeps

REFERENCE = (
    "returned_episode_lengths,returned_episode_returns,returned_episode_solved,delay,method,level,execute_horizon"
)


def row(**given):
    """A run of the columns that every results.csv has: its epoch is left out, and is the last one then."""
    return {name: value for name, value in sweeps.row(**given).items() if name != "epoch"}


def test_what_is_written_is_read_back_exactly(tmp_path):
    rate = np.float64(1) / 3
    rows = [
        row(returned_episode_solved=rate, key="0123456789e8", useful_share=0.9),
        row(seed=1, returned_episode_solved=np.float32(0.703125), published_level=False),
    ]
    path = write_results(rows, tmp_path / "new" / "sweep")
    assert path.read_text().splitlines()[0].startswith(REFERENCE + ",seed,num_flow_steps,num_evals,key,useful_share")
    frame = read_results(path)
    assert frame.returned_episode_solved.tolist() == [1 / 3, 0.703125]
    assert frame.key.tolist() == ["0123456789e8", "l_one-naive-0-1-5-last-1"]
    assert set(frame.epoch) == {"last"}
    assert os.listdir(path.parent) == ["results.csv"]
    assert frame.equals(read_results(path.parent))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_results([row()], tmp_path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        publish(path, b"half")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["results.csv"]


def test_a_row_without_a_column_is_a_fault_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="lacks seed"):
        write_results([{name: 0 for name in COLUMNS if name != "seed"}], tmp_path)
    assert not list(tmp_path.iterdir())


def test_timings_stand_apart_and_no_result_hangs_on_them(tmp_path):
    """Equal runs have equal results.csv, whatever they took; a row's own timings come back to it."""
    slow = [row(seed=seed, latency_ms=2.5 + seed, device="cpu, 2 cores") for seed in (0, 1)]
    path = write_results(slow, tmp_path)
    text = path.read_text()
    assert text == write_results([row(seed=seed) for seed in (0, 1)], tmp_path / "other").read_text()
    assert not (tmp_path / "other" / "timings.csv").exists()
    frame = read_results(path)
    assert frame.latency_ms.tolist() == [2.5, 3.5]
    assert set(frame.device) == {"cpu, 2 cores"}
    path.with_name("timings.csv").write_text("key,late")
    assert read_results(path).equals(read_results(tmp_path / "other"))


def test_a_run_written_twice_counts_once(tmp_path):
    assert len(read_results(write_results([row(), row(seed=1), row()], tmp_path))) == 2


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: "", "empty"),
        (lambda text: text.splitlines()[0] + "\n", "empty"),
        (lambda text: text.replace(",seed,", ",sead,"), r"lacks the column\(s\) seed"),
        (lambda text: text[:-4], "breaks off"),
        (lambda text: text[: text.rindex(",")] + "\n", "line 3 has 10 fields instead of 11"),
        (lambda text: text.replace("0.25", "nan"), "line 3: returned_episode_solved=nan is not a finite number"),
        (lambda text: text.replace("0.25", ""), "line 3: returned_episode_solved= is not"),
        (lambda text: text.replace("0.25", "1.25"), "not a rate"),
        (lambda text: text.replace(",64,", ",6.4,"), "num_evals=6.4 is not a whole number"),
        (lambda text: text.replace(",1,5,64,second", ",0,5,64,second"), "2 runs .*keys first, second"),
        (lambda text: text.replace("second", "first"), "key first stands there with two different results"),
        (lambda text: text.encode().replace(b"naive", b"na\xefve"), "UnicodeDecodeError"),
    ],
)
def test_damage_is_named_in_one_line_and_ends_with_2(tmp_path, capsys, edit, message):
    path = write_results([row(key="first"), row(key="second", seed=1, returned_episode_solved=0.25)], tmp_path)
    damaged = edit(path.read_text())
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    with pytest.raises(UserError, match=message):
        read_results(path)
    for command in (tables.main, stats.main, plots.main):
        with pytest.raises(SystemExit) as end:
            command([str(tmp_path)])
        out, err = capsys.readouterr()
        assert (end.value.code, out, err.count("\n")) == (2, "", 1)
    assert os.listdir(tmp_path) == ["results.csv"]


def test_latest_is_the_newest_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="latest: no sweep"):
        find_sweep("latest")
    with pytest.raises(UserError, match="nowhere: no such file"):
        find_sweep("nowhere")
    for age, experiment in ((10, "rtc"), (5, "ablation")):
        path = write_results([row(method=experiment)], f"outputs/{experiment}/2026")
        os.utime(path, (1e9 - age, 1e9 - age))
        os.symlink("2026", f"outputs/{experiment}/latest")
    assert read_results("latest").method.tolist() == ["ablation"]


def test_analysis_brings_neither_jax_nor_pyplot():
    code = "import sys, analysis.stats, analysis.plots; print({'jax', 'hydra', 'matplotlib.pyplot'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
