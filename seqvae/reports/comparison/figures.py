"""Figures that compare several runs. matplotlib is imported only when one is drawn.

A few values are often far from the others: the KL of an autoencoder may be 180 nats where every other recipe's is below
20. Axes of such values are linear for most of them and logarithmic beyond (matplotlib's `symlog`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqvae.evaluation.metrics import ACTIVE
from seqvae.reports.comparison.outcomes import Outcome, get_score, group_by_name
from seqvae.reports.figure_style import (
    BLACK,
    GREY,
    LIGHT,
    REFERENCE,
    Look,
    add_legend,
    choose_looks,
    make_entry,
    make_figure,
    save_figure,
    use_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


NEAR, FAR = 2.0, 4.0  # times the median magnitude: an axis with values beyond `FAR` is logarithmic beyond `NEAR`
SMALLEST = 1e-6  # smaller variances are drawn here
PANELS = {
    "negative_elbo": "-ELBO",
    "reconstruction": "reconstruction",
    "kl": "KL",
    "mutual_information_lower": "mutual information",
}
LOGARITHMIC = " Axes with values far from the others are logarithmic beyond twice the median."
CAPTIONS = {
    "rate_distortion": "Reconstruction against KL, one mark a run; grey lines join points of equal -ELBO."
    + LOGARITHMIC,
    "nll_against_information": "-log p(x) less the language model's (the lowest where there is none) with the standard "
    "error over the sentences, beside a language model that of the difference on the same ones, against the mutual "
    "information of sentence and z: the mark is the lower bound, the bar reaches from two standard errors below it to "
    "two above the upper bound." + LOGARITHMIC,
    "active_unit_curves": "Variance of the posterior mean over the sentences, relative to the prior's, by latent "
    f"dimension from the largest to the smallest; units above {ACTIVE} count as active. Values below {SMALLEST:g} are "
    "drawn there.",
    "training_curves": "Validation during training, nats per sentence, one line a run; of the mutual information the "
    "lower bound." + LOGARITHMIC,
}


def draw_all(outcomes: Sequence[Outcome], folder: Path) -> dict[str, Path]:
    """Draw every figure that there is data for, each as PNG and as SVG.

    Args:
        outcomes: the runs.
        folder: made if it does not exist.

    Returns:
        the SVG of each figure by its name, a key of `CAPTIONS`; the PNG lies beside it.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    plots: dict[str, Callable[[Sequence[Outcome]], Figure | None]] = {
        "rate_distortion": plot_rate_distortion,
        "nll_against_information": plot_nll_against_information,
        "active_unit_curves": plot_active_unit_curves,
        "training_curves": plot_training_curves,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with use_style():
        figures = {name: plot(outcomes) for name, plot in plots.items()}
        return {name: save_figure(figure, folder, name) for name, figure in figures.items() if figure is not None}


def plot_rate_distortion(outcomes: Sequence[Outcome]) -> Figure | None:
    """Plot reconstruction against KL, with lines of equal -ELBO; None without such scores.

    Source: Alemi et al., Fixing a Broken ELBO, 2018, arXiv:1711.00464.
    """
    runs = _select_latent(outcomes, "kl", "reconstruction")
    if not runs:
        return None
    figure, axes = make_figure("KL, nats per sentence", "reconstruction, nats per sentence")
    looks = _choose_looks(outcomes)
    for run in runs:
        axes.plot(run.scores["kl"], run.scores["reconstruction"], clip_on=False, **_mark(looks[run.name]))
    set_scale(axes, "x", [run.scores["kl"] for run in runs])
    axes.set_xlim(left=min(0.0, *(run.scores["kl"] for run in runs)))
    entries = _make_entries(runs, looks, linestyle="none") + _add_reference(axes, _find_reference(outcomes))
    add_legend(figure, entries + _add_equal_sums(axes))
    return figure


def plot_nll_against_information(outcomes: Sequence[Outcome]) -> Figure | None:
    """Plot -log p(x), less the language model's, against the mutual information; None without such scores."""
    runs = _select_latent(outcomes, "nll", "mutual_information_lower")
    if not runs:
        return None
    reference, looks = _find_reference(outcomes), _choose_looks(outcomes)
    base = min(run.scores["nll"] for run in runs) if reference is None else reference
    name = "lowest" if reference is None else "language model's"
    figure, axes = make_figure("mutual information of sentence and z, nats", f"-log p(x) less the {name}, nats")
    for run in runs:
        x, y = run.scores["mutual_information_lower"], run.scores["nll"] - base
        low, high = _find_information(run)
        axes.errorbar(
            x,
            y,
            xerr=[[x - low], [high - x]],
            yerr=_find_error(run, outcomes),
            ecolor=(looks[run.name].colour, 0.6),
            elinewidth=1.0,
            **_mark(looks[run.name]),
        )
    set_scale(axes, "x", [_find_information(run)[1] for run in runs])
    set_scale(axes, "y", [run.scores["nll"] - base for run in runs])
    line: dict[str, Any] = {"color": BLACK, "linewidth": 1.0, "linestyle": REFERENCE}
    axes.axhline(0.0, zorder=2, **line)
    label = f"{'lowest' if reference is None else 'language model'}: {base:.2f}"
    add_legend(figure, [*_make_entries(runs, looks, linestyle="none"), make_entry(label, **line)])
    return figure


def plot_active_unit_curves(outcomes: Sequence[Outcome]) -> Figure | None:
    """Plot the variances of the posterior means, largest first, on a logarithmic axis; None without them."""
    from matplotlib.ticker import MaxNLocator

    runs = [run for run in outcomes if run.kind != "lm" and len(run.scores.get("variances") or ())]
    if not runs:
        return None
    figure, axes = make_figure("latent dimension, by variance", "variance of the posterior mean / the prior's")
    looks = _choose_looks(outcomes)
    for run in runs:
        values = np.maximum(np.sort(run.scores["variances"])[::-1], SMALLEST)
        look, every = looks[run.name], max(1, len(values) // 12)
        marks: dict[str, Any] = {"marker": look.marker, "markersize": 4, "markevery": every}
        ranks = np.arange(1, len(values) + 1)
        axes.plot(ranks, values, color=look.colour, linestyle=look.dash, alpha=0.85, **marks)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    line: dict[str, Any] = {"color": GREY, "linewidth": 0.9, "linestyle": (0, (2, 2))}
    axes.axhline(ACTIVE, zorder=1, **line)
    add_legend(figure, [*_make_entries(runs, looks), make_entry(f"threshold {ACTIVE}", **line)])
    return figure


def plot_training_curves(outcomes: Sequence[Outcome]) -> Figure | None:
    """Plot the validations against the step, a panel for each quantity; None without any."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = {name: [(run, line) for run in outcomes if (line := _read_curve(run, name))] for name in PANELS}
    panels = {name: lines for name, lines in panels.items() if any(value for _, line in lines for _, value in line)}
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.0 * columns + 1.8, 2.4 * rows + 0.2), layout="constrained")
    looks = _choose_looks(outcomes)
    for place, (name, lines) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, place, xlabel="step", ylabel=f"{PANELS[name]}, nats")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        for run, line in lines:
            look = looks[run.name]
            marker = "" if len(line) > 1 else look.marker
            axes.plot(*zip(*line, strict=True), color=look.colour, linestyle=look.dash, marker=marker, alpha=0.85)
        set_scale(axes, "y", [value for _, line in lines for _, value in line])
    figure.align_ylabels()
    shown = [run for run in outcomes if any(run is other for lines in panels.values() for other, _ in lines)]
    add_legend(figure, _make_entries(shown, looks, marker=""))
    return figure


def set_scale(axes: Axes, axis: str, values: Sequence[float]) -> None:
    """Make the axis `x` or `y` logarithmic at its end where some values are far from most of the others.

    It is linear up to `NEAR` times the median of their magnitudes; all of it where none is over `FAR` times the median.
    """
    from matplotlib.ticker import FixedLocator

    sizes = np.abs(values)
    median = float(np.median(sizes))
    if not 0 < FAR * median < sizes.max() < np.inf:
        return
    linear = NEAR * median
    (axes.set_xscale if axis == "x" else axes.set_yscale)("symlog", linthresh=linear, linscale=2.0)
    ticks = [size * 10.0**power for power in range(-3, 6) for size in (1, 2, 5)]
    ticks = [0.0, *(tick for tick in ticks if tick > linear / 8)]
    line = axes.xaxis if axis == "x" else axes.yaxis
    line.set_major_locator(FixedLocator(ticks + [-tick for tick in ticks if tick > 0 > min(values)]))
    line.set_major_formatter("{x:g}")


def _add_equal_sums(axes: Axes) -> list[Any]:
    """Draw lines on which x + y is the same, each with its sum; return their entry of the legend."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x, y = np.meshgrid(np.linspace(left, right, 1000), np.linspace(low, high, 100))
    levels = np.asarray(MaxNLocator(10, steps=[1, 2, 5, 10]).tick_values(left + low, right + high))
    if axes.get_xscale() == "symlog":
        levels = np.array([size * 10.0**power for power in range(-1, 5) for size in (1, 1.5, 2, 3, 4, 5, 7)])
    height = low + 0.12 * (high - low)
    levels = levels[(levels - height > left) & (levels - height < right)]
    lines = axes.contour(x, y, x + y, levels, colors=LIGHT, linewidths=0.8, zorder=1)
    axes.clabel(lines, fmt="%g", fontsize=7.5, colors=GREY, manual=[(level - height, height) for level in levels])
    return [make_entry("equal -ELBO", color=LIGHT, linewidth=0.8)]


def _add_reference(axes: Axes, level: float | None) -> list[Any]:
    """Draw the language model's -log p(x) as a horizontal line; return its entry of the legend."""
    if level is None:
        return []
    line: dict[str, Any] = {"color": BLACK, "linewidth": 1.0, "linestyle": REFERENCE}
    axes.axhline(level, zorder=2, **line)
    return [make_entry(f"language model: {level:.2f}", **line)]


def _find_reference(outcomes: Sequence[Outcome]) -> float | None:
    """Return the mean -log p(x) of the language models, nats per sentence; None if there are none."""
    values = [run.scores["nll"] for run in outcomes if run.kind == "lm" and _has_scores(run, "nll")]
    return float(np.mean(values)) if values else None


def _find_error(run: Outcome, outcomes: Sequence[Outcome]) -> float:
    """Return the standard error of -log p(x) over the sentences; beside a language model, of the paired difference."""
    reference = [one.nll for one in outcomes if one.kind == "lm"]
    if not reference or len(run.nll) < 2:
        return get_score(run.scores, "nll_standard_error") or 0.0
    return float(np.std(run.nll - np.mean(reference, axis=0), ddof=1) / len(run.nll) ** 0.5)


def _find_information(run: Outcome) -> tuple[float, float]:
    """Return the bounds of the mutual information, each moved out by two standard errors, the lower one at least 0."""
    lower = run.scores["mutual_information_lower"]
    upper = get_score(run.scores, "mutual_information_upper")
    errors = [get_score(run.scores, f"mutual_information_{end}_standard_error") or 0.0 for end in ("lower", "upper")]
    return max(0.0, lower - 2 * errors[0]), (lower if upper is None else upper) + 2 * errors[1]


def _mark(look: Look) -> dict[str, Any]:
    """Return how a run is drawn as a mark."""
    ink = {"color": look.colour, "marker": look.marker, "markeredgecolor": "white", "markeredgewidth": 0.6}
    return ink | {"linestyle": "none", "alpha": 0.9, "zorder": 4}


def _make_entries(runs: Sequence[Outcome], looks: dict[str, Look], **options: Any) -> list[Any]:
    """Make the entries of the recipes in the legend, with marker and dash unless `options` give others."""
    names = {name: looks[name] for name in group_by_name(runs)}
    return [
        make_entry(name, **({"color": look.colour, "marker": look.marker, "linestyle": look.dash} | options))
        for name, look in names.items()
    ]


def _choose_looks(outcomes: Sequence[Outcome]) -> dict[str, Look]:
    return choose_looks({name: runs[0].kind for name, runs in group_by_name(outcomes).items()})


def _select_latent(outcomes: Sequence[Outcome], *names: str) -> list[Outcome]:
    """Select the runs with a latent space that have these scores."""
    return [run for run in outcomes if run.kind != "lm" and _has_scores(run, *names)]


def _has_scores(run: Outcome, *names: str) -> bool:
    """Return whether the run has these scores, all finite."""
    values = [get_score(run.scores, name) for name in names]
    return all(value is not None and np.isfinite(value) for value in values)


def _read_curve(run: Outcome, name: str) -> list[tuple[int, float]]:
    """Return step and value of each validation that measured it."""
    return [(line["step"], value) for line in run.curve if (value := get_score(line, name)) is not None]
