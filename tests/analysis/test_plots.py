"""The figure: what is drawn equals the table, and nothing leaves the page."""

import io
import os

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import plots
from analysis.plots import LOOKS, draw, look, looks
from analysis.results import write_results
from tests.analysis.sweeps import row

METHODS = ("naive", "hard_masking", "realtime")


def frame(seeds=3, delays=5):
    return pd.DataFrame(
        row(method=method, delay=delay, seed=seed, returned_episode_solved=round(rate, 3))
        for index, method in enumerate(METHODS)
        for delay in range(delays)
        for seed in range(seeds)
        for rate in [0.9 - 0.2 * delay / (1 + index) - 0.05 * seed]
    )


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw a frame and return its figure."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **given: (figures.append(self), save(self, *args, **given))
    )

    def drawing(runs, which=0):
        files = draw(runs, tmp_path)
        return figures[which - len(files)]

    return drawing


def title(figure):
    return figure.legends[0].get_title().get_text()


def lines(figure):
    """{label: rates} of the lines in the legend."""
    return {line.get_label(): line.get_ydata() for line in figure.axes[0].lines if not line.get_label().startswith("_")}


def test_lines_are_the_tables_means_and_bands_one_std(drawn):
    figure = drawn(frame())
    assert list(lines(figure)) == list(METHODS)
    np.testing.assert_allclose(lines(figure)["naive"], [0.85, 0.65, 0.45, 0.25, 0.05])
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    first = np.unique(band[band[:, 0] == band[:, 0].min(), 1])
    np.testing.assert_allclose([first.min(), first.max()], [0.80, 0.90])
    assert "n = 3 seeds x 1 level x 64 episodes" in figure.get_supxlabel()
    assert figure.axes[0].get_ylim() == (-0.02, 1.02)


def test_one_seed_has_no_band(drawn):
    figure = drawn(frame(seeds=1))
    assert not any(np.isfinite(path.vertices).any() for each in figure.axes[0].collections for path in each.get_paths())
    assert "±" not in figure.get_supxlabel()


def test_a_hole_is_a_gap_and_a_point_short_of_seeds_is_hollow(drawn):
    runs = frame()
    gone = (runs.method == "naive") & ((runs.delay == 2) | ((runs.delay == 3) & (runs.seed == 0)))
    figure = drawn(runs[~gone])
    assert np.isnan(lines(figure)["naive"]).tolist() == [False, False, True, False, False]
    hollow = [
        line for line in figure.axes[0].lines if line.get_linestyle() == "None" and np.isfinite(line.get_ydata()).any()
    ]
    assert [line.get_ydata()[np.isfinite(line.get_ydata())].tolist() for line in hollow] == [[pytest.approx(0.225)]]
    assert "hollow: seeds missing, gap: no complete seed" in figure.get_supxlabel()


def test_nothing_is_cut_off_or_written_over_something_else(drawn):
    several = pd.concat([frame(), frame().assign(num_flow_steps=10)])
    pairs = [(choice, token) for choice in (0.0, 1.0) for token in (0.0, 0.5, 1.0)]
    temperatures = [f"hard_masking choice_temperature={choice} token_temperature={token}" for choice, token in pairs]
    arms = pd.concat([frame()[frame().method == "naive"].assign(method=arm) for arm in temperatures])
    long = arms.assign(method=arms.method + " schedule.decode_schedule=one_minus_cosine")
    for runs in (frame(), several, arms, long, frame().assign(level="l/mjc_half_cheetah"), frame(delays=1)):
        figure = drawn(runs)
        page, renderer = figure.bbox, figure.canvas.get_renderer()
        (axes,) = figure.axes
        parts = [figure.legends[0], axes.xaxis, axes.yaxis, *figure.texts]
        boxes = [part.get_tightbbox(renderer) for part in parts] + [axes.get_window_extent(renderer)]
        for box in boxes:
            assert page.x0 <= box.x0 < box.x1 <= page.x1
            assert page.y0 <= box.y0 < box.y1 <= page.y1
        legend, caption = boxes[0], *(text.get_tightbbox(renderer) for text in figure.texts)
        assert not legend.overlaps(boxes[-1])
        assert not caption.overlaps(axes.xaxis.get_tightbbox(renderer))


@pytest.mark.parametrize(
    ("names", "shared", "labels"),
    [
        (["naive"], [], ["naive"]),
        (["naive", "realtime"], [], ["naive", "realtime"]),
        (["bid n_samples=4", "bid n_samples=16"], ["bid"], ["n_samples=4", "n_samples=16"]),
        (["bid", "bid n_samples=16"], [], ["bid", "bid, n_samples=16"]),
        (["bid a=1 b=2", "bid a=1 b=3"], ["bid, a=1"], ["b=2", "b=3"]),
        (["realtime a=1 b=2", "naive a=2 b=2"], ["b=2"], ["realtime, a=1", "naive, a=2"]),
    ],
)
def test_what_all_lines_share_is_said_once_above_them(drawn, names, shared, labels):
    runs = frame()[frame().method == "naive"]
    figure = drawn(pd.concat([runs.assign(method=name) for name in names]))
    assert list(lines(figure)) == labels
    assert title(figure).splitlines()[1:] == shared


def test_a_method_looks_the_same_in_every_figure():
    assert len({look(method)[:2] for method in LOOKS}) == len(LOOKS) == 5
    assert look("my_decode") == look("my_decode")
    assert look("my_decode").colour not in {each.colour for each in LOOKS.values()}
    assert look("my_decode") == ("#56B4E9", "h", (1.0, 0.0))


def test_no_two_lines_of_a_figure_look_alike():
    """Two of these hash to one look; as long as there are colours none comes twice, after that no colour and marker."""
    arms = [f"{decode} schedule={schedule}" for schedule in ("masked", "uniform", "flow") for decode in METHODS[::2]]
    assert look(arms[0]) == look(arms[4])
    assert len({each.colour for each in looks(arms).values()}) == len(arms) == 6
    assert looks(arms)[arms[0]] == look(arms[0])
    assert len(set(looks(map(str, range(30))).values())) == 30
    assert looks(LOOKS) == LOOKS


def test_the_command_writes_the_same_png_each_time(tmp_path, capsys):
    write_results(frame().to_dict("records"), tmp_path)
    plots.main([str(tmp_path)])
    first = (tmp_path / "delay_curve.png").read_bytes()
    plots.main([str(tmp_path)])
    assert (tmp_path / "delay_curve.png").read_bytes() == first
    assert capsys.readouterr().out.endswith("delay_curve.png\n")
    assert matplotlib.image.imread(io.BytesIO(first)).shape[:2] == (870, 1020)
    assert sorted(os.listdir(tmp_path)) == ["delay_curve.png", "results.csv"]


def test_by_epoch_there_is_a_line_for_each_delay(drawn):
    """Rates .1, .2 ... by epoch, and half of it at d = 3, are what the lines go through."""
    runs = pd.DataFrame(
        row(delay=d, seed=seed, epoch=str(epoch), returned_episode_solved=epoch / 10 / (1 + (d > 0)))
        for epoch in (2, 4, 8)
        for d in (0, 3)
        for seed in (0, 1)
    )
    figure = drawn(runs, 1)
    assert {name: list(rates) for name, rates in lines(figure).items()} == {
        "d = 0": [0.2, 0.4, 0.8],
        "d = 3": [0.1, 0.2, 0.4],
    }
    assert figure.axes[0].get_xlabel() == "epoch"
    assert title(figure) == "Solve rate by epoch, l/one\nnaive"


def test_by_latency_there_is_a_point_for_each_number_of_steps(drawn):
    runs = pd.DataFrame(
        row(
            num_flow_steps=n,
            seed=seed,
            returned_episode_solved=n / 20,
            network_evaluations=n,
            latency_ms=2.0 * n + seed,
        )
        for n in (12, 5, 8)
        for seed in (0, 1)
    )
    (line,) = [line for line in drawn(runs, 1).axes[0].lines if line.get_label() == "naive, d = 0"]
    assert line.get_xdata().tolist() == [10.5, 16.5, 24.5]
    assert line.get_ydata().tolist() == [0.25, 0.4, 0.6]


def test_without_several_epochs_or_costs_only_the_delays_are_drawn(tmp_path):
    assert [file.name for file in draw(frame(), tmp_path)] == ["delay_curve.png"]
