"""The figure: what is drawn equals the table, and nothing leaves the page."""

import io
import os

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import plots
from analysis.plots import LOOKS, delay_curve, look
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

    def draw(runs):
        delay_curve(runs, tmp_path / "curve.png")
        return figures[-1]

    return draw


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
    for runs in (frame(), several, frame().assign(level="l/mjc_half_cheetah"), frame(delays=1)):
        figure = drawn(runs)
        page, renderer = figure.bbox, figure.canvas.get_renderer()
        (axes,) = figure.axes
        parts = [axes.get_legend(), axes.xaxis, axes.yaxis, *figure.texts]
        boxes = [part.get_tightbbox(renderer) for part in parts] + [axes.get_window_extent(renderer)]
        for box in boxes:
            assert page.x0 <= box.x0 < box.x1 <= page.x1
            assert page.y0 <= box.y0 < box.y1 <= page.y1
        legend, title, caption = boxes[0], *(text.get_tightbbox(renderer) for text in figure.texts)
        assert not legend.overlaps(boxes[-1])
        assert not legend.overlaps(title)
        assert not caption.overlaps(axes.xaxis.get_tightbbox(renderer))


def test_a_method_looks_the_same_in_every_figure():
    assert len({look(method)[:2] for method in LOOKS}) == len(LOOKS) == 5
    assert look("my_decode") == look("my_decode")
    assert look("my_decode").colour not in {each.colour for each in LOOKS.values()}
    assert look("my_decode") == ("#56B4E9", "h", (1.0, 0.0))


def test_the_command_writes_the_same_png_each_time(tmp_path, capsys):
    write_results(frame().to_dict("records"), tmp_path)
    plots.main([str(tmp_path)])
    first = (tmp_path / "delay_curve.png").read_bytes()
    plots.main([str(tmp_path)])
    assert (tmp_path / "delay_curve.png").read_bytes() == first
    assert capsys.readouterr().out.endswith("delay_curve.png\n")
    assert matplotlib.image.imread(io.BytesIO(first)).shape[:2] == (870, 1020)
    assert sorted(os.listdir(tmp_path)) == ["delay_curve.png", "results.csv"]
