"""Figures: drawn where there is data, readable with values far from the others, and nothing left behind."""

import itertools
import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from outcomes import RECIPES, make_run, make_runs

from seqvae.errors import ConfigError
from seqvae.reports.comparison import figures
from seqvae.reports.comparison.figures import (
    CAPTIONS,
    draw_all,
    plot_active_unit_curves,
    plot_nll_against_information,
    plot_rate_distortion,
    plot_training_curves,
)
from seqvae.reports.figure_style import MARKERS, choose_looks, save_figure, use_style

FIGURES = ["rate_distortion", "nll_against_information", "active_unit_curves", "training_curves"]
CROWD = RECIPES | {
    "noisy-autoencoder": ("ae", 150.0, 3.1, 140.0, 6.6, 140.0, 8),
    **{f"weight-0.{i}": ("vae", 3.0 * i, 31 - 2.5 * i, 31.0 + i / 10, min(6.7, 2.5 * i), 2.8 * i, i) for i in range(8)},
}


def render(figure):
    """Lay the figure out as it is saved, and return the renderer."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def test_every_figure_is_written_as_png_and_as_svg_with_text_as_text(tmp_path):
    paths = draw_all(make_runs(), tmp_path / "new" / "folder")
    assert list(paths) == FIGURES == list(CAPTIONS)
    for name, path in paths.items():
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert "<text" in path.read_text() and "weight-1" in path.read_text(), name


def test_the_same_runs_give_the_same_file(tmp_path):
    with use_style():
        one, two = (save_figure(plot_rate_distortion(make_runs()), tmp_path, name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_figures_without_data_are_left_out(tmp_path):
    assert draw_all([make_run()], tmp_path) == {}
    assert list(draw_all([run for run in make_runs() if run.kind == "lm"], tmp_path)) == ["training_curves"]
    assert list(draw_all([make_run(variances=(1.0, 0.0))], tmp_path)) == ["active_unit_curves"]


def test_a_run_with_one_validation_is_a_mark_among_the_curves():
    one, *others = make_runs()
    axes = plot_training_curves([replace(one, curve=one.curve[-1:]), *others]).axes[0]
    assert all(line.get_marker() not in ("", "None") for line in axes.get_lines() if len(line.get_xdata()) == 1)
    assert {len(line.get_xdata()) for line in axes.get_lines()} > {1}


def test_a_score_that_is_not_finite_is_not_drawn():
    assert plot_rate_distortion([make_run(kl=float("nan"), reconstruction=1.0)]) is None
    infinite = make_run(kl=float("inf"), reconstruction=1.0)
    assert plot_rate_distortion([infinite, make_run(kl=1.0, reconstruction=2.0)]) is not None


def test_settings_of_the_user_stay_and_no_window_is_prepared(tmp_path):
    before = dict(matplotlib.rcParams)
    with use_style():
        assert dict(matplotlib.rcParams) != before
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys; sys.path.insert(0, 'tests/reports'); from outcomes import make_runs;"
        "from seqvae.reports.comparison.figures import draw_all;"
        "from pathlib import Path; assert 'matplotlib' not in sys.modules;"
        f"draw_all(make_runs()[:2], Path({str(tmp_path)!r})); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def heights(axes, values):
    """Return where values lie on the y axis, as fractions of its height."""
    pixels = axes.transData.transform([(axes.get_xlim()[1], value) for value in values])[:, 1]
    return (pixels - axes.bbox.y0) / axes.bbox.height


def test_a_value_far_from_the_others_is_shown_and_leaves_them_room():
    axes = plot_nll_against_information(make_runs()).axes[0]
    base = np.mean([run.scores["nll"] for run in make_runs() if run.kind == "lm"])
    nll = {name: np.mean([run.scores["nll"] for run in make_runs() if run.name == name]) - base for name in RECIPES}
    low, *_, high = sorted(heights(axes, [nll[name] for name in ("default", "weight-1", "autoencoder")]))
    assert 0 < low < high < 1
    assert np.ptp(heights(axes, [nll["weight-1"], nll["default"]])) > 0.05  # of 1 nat, where the autoencoder is 56 away


def test_beside_a_language_model_the_bar_is_the_error_of_the_difference_on_the_same_sentences():
    runs = [run for run in make_runs(seeds=1) if run.kind != "ae"]
    for shown, beside in ((runs, True), ([run for run in runs if run.kind != "lm"], False)):
        bars = [
            bar.lines[2][1].get_segments()[0][:, 1] for bar in plot_nll_against_information(shown).axes[0].containers
        ]
        latent = [run for run in shown if run.kind != "lm"]
        for run, (low, high) in zip(latent, bars, strict=True):
            paired = np.std(run.nll - runs[0].nll, ddof=1) / len(run.nll) ** 0.5
            assert (high - low) / 2 == pytest.approx(paired if beside else run.scores["nll_standard_error"])
            assert paired < run.scores["nll_standard_error"] / 2, "else the test has no case"


def test_axes_without_values_far_from_the_others_are_linear():
    near = [run for run in make_runs() if run.kind != "ae"]
    for plot in (plot_rate_distortion, plot_nll_against_information):
        axes = plot(near).axes[0]
        assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    assert plot_rate_distortion(make_runs()).axes[0].get_xscale() == "symlog"


@pytest.mark.parametrize("plot", [plot_rate_distortion, plot_nll_against_information])
def test_every_mark_lies_inside_the_axes(plot):
    axes = plot(make_runs(CROWD)).axes[0]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    marks = [line for line in axes.lines if line.get_linestyle() == "None" and line.get_marker() in MARKERS]
    assert len(marks) == 2 * (len(CROWD) - 1)  # the language model is a line
    assert all(left <= x <= right and low <= y <= high for line in marks for x, y in line.get_xydata())


@pytest.mark.parametrize("name", FIGURES)
def test_no_two_texts_overlap_and_the_legend_covers_no_data(name):
    with use_style():
        figure = getattr(figures, f"plot_{name}")(make_runs(CROWD))
        renderer = render(figure)
    legend = figure.legends[0].get_window_extent(renderer)
    for axes in figure.axes:
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert not legend.overlaps(axes.get_window_extent(renderer))


def test_lines_of_equal_bound_are_labelled_with_their_sum():
    axes = plot_rate_distortion(make_runs()).axes[0]
    labels = [text for text in axes.texts if text.get_text().isdigit()]
    assert len(labels) >= 3
    for text in labels:
        assert sum(text.get_position()) == pytest.approx(int(text.get_text()), rel=0.02)


def test_variances_of_zero_are_drawn_at_the_smallest():
    axes = plot_active_unit_curves([make_run(variances=(1.0, 0.0, 0.5))]).axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx([1.0, 0.5, figures.SMALLEST])


def test_thirty_recipes_look_different_and_seeds_alike():
    look = choose_looks({str(i): "vae" for i in range(30)} | {"lm": "lm"})
    assert len(set(look.values())) == 31


def test_without_matplotlib_the_error_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"seqvae\[plot\]"):
        draw_all(make_runs(), tmp_path)
