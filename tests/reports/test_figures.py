"""Figures: drawn where there is data, readable whatever is far off, and nothing left behind."""

import itertools
import subprocess
import sys
from dataclasses import replace

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from outcomes import RECIPES, bare, made

from seqvae.errors import ConfigError
from seqvae.reports.comparison import figures
from seqvae.reports.comparison.figures import (
    CAPTIONS,
    active_unit_curves,
    draw_all,
    nll_against_information,
    rate_distortion,
    training_curves,
)
from seqvae.reports.comparison.scales import Scale, apart
from seqvae.reports.figure_style import looks, save, style

FIGURES = ["rate_distortion", "nll_against_information", "active_unit_curves", "training_curves"]
CROWD = RECIPES | {
    "noisy-autoencoder": ("ae", 150.0, 3.1, 140.0, 6.6, 140.0, 8),
    **{f"weight-0.{i}": ("vae", 3.0 * i, 31 - 2.5 * i, 31.0 + i / 10, min(6.7, 2.5 * i), 2.8 * i, i) for i in range(8)},
}


def drawn(figure):
    """The figure laid out as it is saved, and what draws it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def test_every_figure_is_written_as_png_and_as_svg_with_text_as_text(tmp_path):
    paths = draw_all(made(), tmp_path / "new" / "folder")
    assert list(paths) == FIGURES == list(CAPTIONS)
    for name, path in paths.items():
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert "<text" in path.read_text() and "weight-1" in path.read_text(), name


def test_the_same_runs_give_the_same_file(tmp_path):
    with style():
        one, two = (save(rate_distortion(made()), tmp_path, name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_figures_without_data_are_left_out(tmp_path):
    assert draw_all([bare()], tmp_path) == {}
    assert list(draw_all([run for run in made() if run.kind == "lm"], tmp_path)) == ["training_curves"]
    assert list(draw_all([bare(variances=(1.0, 0.0))], tmp_path)) == ["active_unit_curves"]


def test_a_run_with_one_validation_is_a_mark_among_the_curves():
    one, *others = made()
    axes = training_curves([replace(one, curve=one.curve[-1:]), *others]).axes[0]
    assert all(line.get_marker() not in ("", "None") for line in axes.get_lines() if len(line.get_xdata()) == 1)
    assert {len(line.get_xdata()) for line in axes.get_lines()} > {1}


def test_a_score_that_is_not_finite_is_not_drawn():
    assert rate_distortion([bare(kl=float("nan"), reconstruction=1.0)]) is None
    assert rate_distortion([bare(kl=float("inf"), reconstruction=1.0), bare(kl=1.0, reconstruction=2.0)]) is not None


def test_settings_of_the_user_stay_and_no_window_is_prepared(tmp_path):
    before = dict(matplotlib.rcParams)
    with style():
        assert dict(matplotlib.rcParams) != before
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys; sys.path.insert(0, 'tests/reports'); from outcomes import made;"
        "from seqvae.reports.comparison.figures import draw_all;"
        "from pathlib import Path; assert 'matplotlib' not in sys.modules;"
        f"draw_all(made()[:2], Path({str(tmp_path)!r})); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_far_off_is_in_a_band_with_its_number():
    far = [run.scores for run in made() if run.kind == "ae"]
    axes = rate_distortion(made()).axes[0]
    assert axes.get_xlim()[1] < 40
    kl = sum(scores["kl"] for scores in far) / 2
    assert [text.get_text() for text in axes.texts if "→" in text.get_text()] == [f"{kl:.0f} →"]
    axes = nll_against_information(made()).axes[0]
    assert axes.get_ylim()[1] < 50
    nll = sum(scores["nll"] for scores in far) / 2
    assert [text.get_text() for text in axes.texts if "↑" in text.get_text()] == [f"{nll:.1f} ↑"]


def test_without_far_runs_there_is_no_band():
    axes = rate_distortion([run for run in made() if run.kind != "ae"]).axes[0]
    assert not [text for text in axes.texts if "→" in text.get_text()] and not axes.patches


@pytest.mark.parametrize("plot", [rate_distortion, nll_against_information])
def test_every_mark_lies_inside_the_axes(plot):
    axes = plot(made(CROWD)).axes[0]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    marks = [line for line in axes.lines if line.get_linestyle() == "None" and line.get_clip_on()]
    assert len(marks) == 2 * (len(CROWD) - 1)  # the language model is a line
    assert all(left <= x <= right and low <= y <= high for line in marks for x, y in line.get_xydata())


@pytest.mark.parametrize("name", FIGURES)
def test_no_two_texts_overlap_and_the_legend_covers_no_data(name):
    with style():
        figure = getattr(figures, name)(made(CROWD))
        renderer = drawn(figure)
    legend = figure.legends[0].get_window_extent(renderer)
    for axes in figure.axes:
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert not legend.overlaps(axes.get_window_extent(renderer))


def test_lines_of_equal_bound_are_labelled_with_their_sum():
    axes = rate_distortion(made()).axes[0]
    labels = [text for text in axes.texts if text.get_text().isdigit()]
    assert len(labels) >= 3
    for text in labels:
        assert sum(text.get_position()) == pytest.approx(int(text.get_text()))


def test_variances_of_zero_are_drawn_at_the_floor():
    axes = active_unit_curves([bare(variances=(1.0, 0.0, 0.5))]).axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx([1.0, 0.5, figures.FLOOR])


def test_a_scale_shows_the_near_to_scale_and_the_far_in_its_band():
    scale = Scale.of([0.0, 20.0, 180.0], far=60.0)
    assert scale.low < 0 and 20 < scale.edge < scale.place(180.0) < scale.end < 60
    assert scale.place(20.0) == 20.0 and scale.beyond(180.0) and not scale.beyond(20.0)
    assert Scale.of([1.0, 2.0], far=60.0).end == Scale.of([1.0, 2.0], far=60.0).edge


def test_positions_keep_their_order_and_distance():
    moved = apart([0.9, 0.1, 0.9, 0.95], 0.2, 1.0)
    assert moved == pytest.approx([0.6, 0.1, 0.8, 1.0])


def test_thirty_recipes_look_different_and_seeds_alike():
    look = looks({str(i): "vae" for i in range(30)} | {"lm": "lm"})
    assert len(set(look.values())) == 31


def test_without_matplotlib_the_error_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"seqvae\[plot\]"):
        draw_all(made(), tmp_path)
