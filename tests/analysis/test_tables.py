"""The table: means and spreads against hand-computed and published figures, holes, horizons, provenance."""

import pathlib

import pandas as pd
import pytest

from analysis import tables
from analysis.results import read_results, write_results
from analysis.tables import Cell, delay_table, epoch_table, level_table, to_markdown, to_terminal
from tests.analysis.sweeps import row

PUBLISHED = pathlib.Path(__file__).parents[3] / "shared" / "published"


def published(name, folder):
    """One of the authors' files, completed to a sweep of ours."""
    if not PUBLISHED.is_dir():
        pytest.skip("the published figures are not on this machine")
    frame = pd.read_csv(PUBLISHED / f"{name}.csv")
    frame = frame.assign(seed=0, num_flow_steps=5, num_evals=2048, key=[f"{name}{number}" for number in frame.index])
    return read_results(write_results(frame.to_dict("records"), folder))


def texts(table):
    """{row's labels: cells as printed}, read back from the markdown."""
    lines = [line.strip("| ").split(" | ") for line in to_markdown(table).splitlines() if line.startswith("| ")][2:]
    names = len(table.labels)
    return {" ".join(line[:names]): line[names:] for line in lines}


@pytest.mark.parametrize(
    ("name", "method", "rates"),
    [
        ("flow", "naive", ".914 .763 .709 .584 .490"),
        ("flow", "bid", ".917 .877 .813 .681 .555"),
        ("flow", "hard_masking", ".914 .846 .814 .730 .613"),
        ("flow", "realtime", ".921 .893 .844 .746 .612"),
        ("dd", "naive", ".906 .778 .744 .609 .447"),  # .60946 at d = 3, in ANCHORS.md .610
        ("dd", "discrete_rtc", ".905 .911 .880 .840 .746"),
        ("dd", "bid", ".918 .854 .797 .657 .493"),
    ],
)
def test_published_means_come_out_to_three_digits(tmp_path, name, method, rates):
    frame = published(name, tmp_path)
    frame = frame[frame.execute_horizon == frame.delay.clip(lower=1)]
    assert texts(delay_table(frame))[method] == [f"{rate} ± n/a" for rate in rates.split()]


def test_execute_horizons_get_rows_of_their_own(tmp_path):
    """The published grid, realtime: .893 .844 .746 .612 for s = max(1, d) from d = 1 on; .831 for s = 5, d = 1."""
    table = delay_table(published("flow", tmp_path))
    rows = texts(table)
    assert table.labels == ("method", "s")
    assert rows["realtime max(1, d)"][1:] == [f"{rate} ± n/a" for rate in (".893", ".844", ".746", ".612")]
    assert rows["realtime 5"][1] == ".831 ± n/a"
    assert rows["realtime 8"][1:] == ["—"] * 4
    assert len(rows) == 4 * 8
    assert max(map(len, to_terminal(table).splitlines())) <= 100


def test_the_spread_is_that_of_seeds_after_levels_are_averaged():
    """Level means by seed: .3, .5, .7; their mean .5, std .2 with ddof 1 (.163 with ddof 0; .276 over all six rows)."""
    rates = {(0, "l/a"): 0.1, (0, "l/b"): 0.5, (1, "l/a"): 0.2, (1, "l/b"): 0.8, (2, "l/a"): 0.6, (2, "l/b"): 0.8}
    frame = pd.DataFrame([row(seed=s, level=level, returned_episode_solved=r) for (s, level), r in rates.items()])
    assert texts(delay_table(frame)) == {"naive": [".500 ± .200"]}
    assert texts(level_table(frame)) == {"l/a naive": [".300 ± .265"], "l/b naive": [".700 ± .173"]}
    assert "n = 3 seeds x 2 levels x 64 episodes (384 episodes a cell)" in delay_table(frame).footer[0]


def test_one_seed_has_no_spread():
    table = delay_table(pd.DataFrame([row(returned_episode_solved=1.0), row(delay=1, returned_episode_solved=0.0)]))
    assert texts(table) == {"naive": ["1.000 ± n/a", ".000 ± n/a"]}
    assert "one seed has no std" in table.footer[0]


def test_holes_are_shown_and_never_averaged_over():
    rows = [
        row(method=method, delay=delay, seed=seed, level=level, returned_episode_solved=0.1 if level == "l/a" else 0.9)
        for method in ("naive", "realtime")
        for delay in (0, 1)
        for seed in (0, 1, 2)
        for level in ("l/a", "l/b")
    ]
    gone = {("realtime", 0, 2, "l/a")} | {("realtime", 1, seed, "l/b") for seed in (0, 1, 2)}
    left = [run for run in rows if (run["method"], run["delay"], run["seed"], run["level"]) not in gone]
    table = delay_table(pd.DataFrame(left))
    assert texts(table) == {"naive": [".500 ± .000"] * 2, "realtime": [".500 ± .000 2/3", "— 0/3"]}
    assert table.rows[1].cells[0] == Cell(mean=0.5, std=0.0, seeds=2, started=3)
    assert any("those that have all 2 levels" in line for line in table.footer)
    by_level = texts(level_table(pd.DataFrame(left)))
    assert by_level["l/a realtime"] == [".100 ± .000 2/3", ".100 ± .000"]
    assert by_level["l/b realtime"] == [".900 ± .000", "—"]
    alone = [run for run in left if (run["method"], run["seed"]) != ("realtime", 1)]
    assert texts(delay_table(pd.DataFrame(alone)))["realtime"][0] == ".500 ± n/a 1/3"


def test_steps_that_follow_from_the_delay_stand_in_one_row():
    """The published headline: 5, 4, 3, 3, 2 steps for d = 0..4. A delay with two numbers of steps is no such case."""
    runs = [row(delay=d, num_flow_steps=n, returned_episode_solved=n / 10) for d, n in enumerate((5, 4, 3, 3, 2))]
    table = delay_table(pd.DataFrame(runs))
    assert texts(table) == {"naive": [f"{rate} ± n/a" for rate in (".500", ".400", ".300", ".300", ".200")]}
    assert "; 5, 4, 3, 3, 2 flow steps by delay" in table.footer[0]
    beside = delay_table(pd.DataFrame([*runs, *(row(delay=d, method="realtime") for d in range(5))]))
    assert list(texts(beside)) == ["naive 5, 4, 3, 3, 2", "realtime 5"]
    assert len(delay_table(pd.DataFrame([*runs, row(delay=0, num_flow_steps=4)])).rows) == 4


def test_epochs_get_rows_of_their_own_and_a_table_by_epoch():
    runs = [
        row(delay=d, epoch=epoch, returned_episode_solved=float(epoch == "8") / (1 + d))
        for d in (0, 1)
        for epoch in ("2", "8", "best")
    ]
    rows = texts(delay_table(pd.DataFrame(runs)))
    assert rows == {
        "naive 2": [".000 ± n/a"] * 2,
        "naive 8": ["1.000 ± n/a", ".500 ± n/a"],
        "naive best": [".000 ± n/a"] * 2,
    }
    table = epoch_table(pd.DataFrame(runs))
    assert (table.across, table.columns) == ("epoch", (2, 8))
    assert texts(table) == {"naive 0": [".000 ± n/a", "1.000 ± n/a"], "naive 1": [".000 ± n/a", ".500 ± n/a"]}
    assert epoch_table(pd.DataFrame([row(), row(delay=1)])) is None


def test_costs_are_shown_where_lines_differ_in_them_by_design():
    """Means over a line's runs. A latency that differs by noise alone shows nothing."""
    runs = [
        row(method=method, seed=seed, network_evaluations=asked, latency_ms=asked + seed, device="cpu, 2 cores")
        for method, asked in (("naive", 5), ("bid", 80))
        for seed in (0, 1)
    ]
    table = delay_table(pd.DataFrame(runs))
    assert table.labels == ("method", "evaluations", "ms")
    assert list(texts(table)) == ["naive 5.0 5.5", "bid 80.0 80.5"]
    assert "ms: latency of a chunk at batch 1 on cpu, 2 cores, mean." in table.footer
    alike = [run | {"network_evaluations": 5} for run in runs]
    assert delay_table(pd.DataFrame(alike)).labels == ("method",)
    unknown = [run | {"latency_ms": ""} for run in runs]
    assert delay_table(pd.DataFrame(unknown)).labels == ("method", "evaluations")


def test_flow_steps_and_fixed_horizons_are_labelled_not_averaged():
    steps = [row(num_flow_steps=n, returned_episode_solved=n / 10) for n in (1, 5)]
    assert texts(delay_table(pd.DataFrame(steps))) == {"naive 1": [".100 ± n/a"], "naive 5": [".500 ± n/a"]}
    fixed = [row(delay=delay, execute_horizon=4) for delay in range(5)]
    assert texts(delay_table(pd.DataFrame(fixed))) == {"naive": [".500 ± n/a"] * 5}
    assert "s = 4;" in delay_table(pd.DataFrame(fixed)).footer[0]


def test_a_level_with_a_benchmarks_name_and_other_content_is_named():
    note = "l/h17_unicycle here is kinetix-env's version of that level, not the benchmark's: not comparable with "
    other = [row(level="l/h17_unicycle", published_level=False), row(level="l/mine", published_level=False)]
    assert delay_table(pd.DataFrame(other)).footer[-1] == note + "published figures."
    assert note in to_markdown(delay_table(pd.DataFrame(other)))
    for frame in ([row(level="l/h17_unicycle", published_level=True)], [row(level="l/h17_unicycle")]):
        assert "comparable" not in to_markdown(delay_table(pd.DataFrame(frame)))


def test_the_note_survives_the_csv(tmp_path):
    path = write_results([row(level="l/h17_unicycle", published_level=False), row(level="l/mine")], tmp_path)
    assert "l/h17_unicycle here is kinetix-env's" in to_terminal(delay_table(read_results(path)))


def test_wide_tables_continue_beneath_and_stay_aligned():
    frame = pd.DataFrame(
        [row(delay=d, method=m, seed=s) for d in range(12) for m in ("naive", "realtime") for s in (0, 1)]
    )
    lines = to_terminal(delay_table(frame)).splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if line.startswith(("naive", "realtime"))] == ["naive", "realtime"] * 2
    assert sum(line.count("d = ") for line in lines[1:]) == 12
    first = lines[2:5]
    assert len({len(line) for line in first}) == 1


def test_the_command_prints_the_table_and_rewrites_table_md(tmp_path, capsys):
    write_results([row(seed=s, level=level) for s in (0, 1) for level in ("l/a", "l/b")], tmp_path)
    (tmp_path / "table.md").write_text("old")
    tables.main([str(tmp_path)])
    out = capsys.readouterr().out
    assert "naive   .500 ± .000" in out
    assert "by level" in out
    assert "| naive | .500 ± .000 |" in (tmp_path / "table.md").read_text()
    assert "| l/b | naive | .500 ± .000 |" in (tmp_path / "table.md").read_text()
