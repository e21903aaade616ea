"""Figures of several runs beside each other; matplotlib is imported only when one is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqvae.reports.comparison import scales
from seqvae.reports.comparison.outcomes import Outcome, by_name, measured
from seqvae.reports.comparison.scales import Point, Scale, reach
from seqvae.reports.figure_style import BLACK, GREY, LIGHT, REFERENCE, Look, canvas, key, legend, looks, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FAR = 2.0  # times the best -ELBO or -log p(x): what is larger would press all else into a corner
EARLY = 0.2  # share of the steps whose fall from the untrained model may leave a panel
THRESHOLD = 0.01  # as `seqvae.evaluation.metrics.ACTIVE`
FLOOR = 1e-6  # smaller variances are drawn here
PANELS = {
    "negative_elbo": "-ELBO",
    "reconstruction": "reconstruction",
    "kl": "KL",
    "mutual_information_lower": "mutual information",
}
SHADED = " In a shaded band: off the scale, with the value."
CAPTIONS = {
    "rate_distortion": "Reconstruction against KL, one mark a run; grey lines join points of equal -ELBO." + SHADED,
    "nll_against_information": "-log p(x) with its standard error over the sentences, against the mutual information "
    "of sentence and z: the mark is the lower end, the bar reaches from two standard errors below it to two above the "
    "upper end." + SHADED,
    "active_unit_curves": "Variance of the posterior mean over the sentences, over that of the prior, by latent "
    f"dimension from the largest to the smallest; units above {THRESHOLD} count as active. What is below {FLOOR:g} is "
    "drawn there.",
    "training_curves": "Validation during training, nats per sentence, one line a run; of the mutual information the "
    "lower end." + SHADED,
}


def draw_all(outcomes: Sequence[Outcome], folder: Path) -> dict[str, Path]:
    """Draw every figure that there is data for, each as PNG and as SVG.

    Args:
        outcomes: the runs.
        folder: made if it is not there.

    Returns:
        the SVG of each figure by its name, a key of `CAPTIONS`; the PNG lies beside it.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    plots: dict[str, Callable[[Sequence[Outcome]], Figure | None]] = {
        "rate_distortion": rate_distortion,
        "nll_against_information": nll_against_information,
        "active_unit_curves": active_unit_curves,
        "training_curves": training_curves,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        figures = {name: plot(outcomes) for name, plot in plots.items()}
        return {name: save(figure, folder, name) for name, figure in figures.items() if figure is not None}


def rate_distortion(outcomes: Sequence[Outcome]) -> Figure | None:
    """Reconstruction against KL, with lines of equal -ELBO; None without such scores.

    Source: Alemi et al., Fixing a Broken ELBO, 2018, arXiv:1711.00464.
    """
    runs = _latent(outcomes, "kl", "reconstruction")
    if not runs:
        return None
    points = [(run.name, run.scores["kl"], run.scores["reconstruction"]) for run in runs]
    level, look = _language_model(outcomes), _looks(outcomes)
    far = FAR * min(across + up for _, across, up in points)
    acrosses, ups = [across for _, across, _ in points], [*(up for _, _, up in points), *level]
    x, y = Scale.of([0.0, *acrosses], reach(acrosses, far)), Scale.of(ups, reach(ups, far))
    figure, axes = canvas("KL, nats per sentence", "reconstruction, nats per sentence")
    lines = _equal_sums(axes, points, x, y)
    _scatter(axes, points, x, y, look)
    legend(figure, _entries(runs, look, linestyle="none") + _reference(axes, level) + lines)
    return figure


def nll_against_information(outcomes: Sequence[Outcome]) -> Figure | None:
    """-log p(x) against the mutual information of sentence and z; None without such scores."""
    runs = _latent(outcomes, "nll", "mutual_information_lower")
    if not runs:
        return None
    points = [(run.name, run.scores["mutual_information_lower"], run.scores["nll"]) for run in runs]
    lower, upper = ([_information(run, end) for run in runs] for end in ("lower", "upper"))
    error = [measured(run.scores, "nll_standard_error") or 0.0 for run in runs]
    level, look = _language_model(outcomes), _looks(outcomes)
    far = FAR * min(up for _, _, up in points)
    x = Scale.of([0.0, *(across for _, across, _ in points), *upper], reach(upper, far))
    ends = [up + sign * e for (_, _, up), e in zip(points, error, strict=True) for sign in (-1, 1)]
    y = Scale.of(ends + level, reach(ends + level, far))
    figure, axes = canvas("mutual information of sentence and z, nats", "-log p(x), nats per sentence")
    for (name, across, up), start, end, e in zip(points, lower, upper, error, strict=True):
        thin: dict[str, Any] = {"color": look[name].colour, "linewidth": 1.0, "alpha": 0.6}
        axes.plot([x.place(start), x.place(end)], [y.place(up)] * 2, **thin)
        if not y.beyond(up):
            axes.plot([x.place(across)] * 2, [up - e, up + e], marker="_", markersize=5, **thin)
    _scatter(axes, points, x, y, look)
    bars = [(name, end, up) for (name, _, up), end in zip(points, upper, strict=True) if x.beyond(end)]
    scales.numbers_beside(axes, bars, x, y, look)
    legend(figure, _entries(runs, look, linestyle="none") + _reference(axes, level))
    return figure


def _information(run: Outcome, end: str) -> float:
    """Two standard errors beyond the lower or the upper end of the mutual information; the lower end from 0."""
    name = f"mutual_information_{end}"
    value, error = measured(run.scores, name), measured(run.scores, f"{name}_standard_error") or 0.0
    if value is None:
        value = run.scores["mutual_information_lower"]
    return float(value + 2 * error if end == "upper" else max(0.0, value - 2 * error))


def active_unit_curves(outcomes: Sequence[Outcome]) -> Figure | None:
    """Variances of the posterior means, largest first, on a logarithmic axis; None without them."""
    from matplotlib.ticker import MaxNLocator

    runs = [run for run in outcomes if run.kind != "lm" and len(run.scores.get("variances") or ())]
    if not runs:
        return None
    figure, axes = canvas("latent dimension, by variance", "variance of the posterior mean / the prior's")
    look = _looks(outcomes)
    for run in runs:
        values = np.maximum(np.sort(run.scores["variances"])[::-1], FLOOR)
        given, every = look[run.name], max(1, len(values) // 12)
        marks: dict[str, Any] = {"marker": given.marker, "markersize": 4, "markevery": every}
        ranks = np.arange(1, len(values) + 1)
        axes.plot(ranks, values, color=given.colour, linestyle=given.dash, alpha=0.85, **marks)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    line: dict[str, Any] = {"color": GREY, "linewidth": 0.9, "linestyle": (0, (2, 2))}
    axes.axhline(THRESHOLD, zorder=1, **line)
    legend(figure, [*_entries(runs, look), key(f"threshold {THRESHOLD}", **line)])
    return figure


def training_curves(outcomes: Sequence[Outcome]) -> Figure | None:
    """Small multiples of the validations against the step; None without any."""
    from matplotlib.figure import Figure

    lines = {name: {run: line for run in outcomes if (line := _line(run, name))} for name in PANELS}
    lines = {name: panel for name, panel in lines.items() if any(value for p in panel.values() for _, value in p)}
    if not lines:
        return None
    bests = [line[-1][1] for line in lines.get("negative_elbo", {}).values()]
    columns = min(2, len(lines))
    rows = -(-len(lines) // columns)
    figure = Figure(figsize=(3.0 * columns + 1.8, 2.4 * rows + 0.2), layout="constrained")
    look = _looks(outcomes)
    for place, (name, panel) in enumerate(lines.items()):
        axes = figure.add_subplot(rows, columns, place + 1, xlabel="step", ylabel=f"{PANELS[name]}, nats")
        _panel(axes, panel, FAR * min(bests, default=np.inf), look)
    figure.align_ylabels()
    legend(figure, _entries([run for run in outcomes if any(run in p for p in lines.values())], look, marker=""))
    return figure


Line = list[tuple[int, float]]  # step and value of each validation


def _panel(axes: Axes, lines: dict[Outcome, Line], far: float, look: dict[str, Look]) -> None:
    """The lines of one quantity; those that end far off leave through the upper edge, and are named there."""
    from matplotlib.ticker import MaxNLocator
    from matplotlib.transforms import Bbox, TransformedBbox

    last = max(line[-1][0] for line in lines.values())
    shown = [line[-1][1] for line in lines.values()]
    for line in lines.values():
        if line[-1][1] <= far:
            settled = [min(value, far) for step, value in line if step > EARLY * last]
            shown += [min(value for _, value in line), *settled]
    x, y = Scale(0, 1.03 * last, 1.03 * last), Scale.of(shown, far)
    scales.apply(axes, x, "x")
    scales.apply(axes, y, "y")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    inside = TransformedBbox(Bbox([[0, y.low], [1, y.edge]]), axes.get_yaxis_transform())
    for run, line in lines.items():
        given = look[run.name]
        mark = "" if len(line) > 1 else given.marker
        (drawn,) = axes.plot(
            *zip(*line, strict=True), color=given.colour, linestyle=given.dash, marker=mark, alpha=0.85
        )
        drawn.set_clip_box(inside)
    gone = [(run.name, float(line[-1][0]), line[-1][1]) for run, line in lines.items() if y.beyond(line[-1][1])]
    scales.numbers_above(axes, gone, x, y, look, width=0.22, lift=0.0)


def _scatter(axes: Axes, points: Sequence[Point], x: Scale, y: Scale, look: dict[str, Look]) -> None:
    """One mark a run; those off the scale in the bands, with their values."""
    scales.apply(axes, x, "x")
    scales.apply(axes, y, "y")
    for name, across, up in points:
        mark: dict[str, Any] = {"color": look[name].colour, "marker": look[name].marker, "markeredgecolor": "white"}
        axes.plot(x.place(across), y.place(up), linestyle="none", markeredgewidth=0.6, alpha=0.9, zorder=4, **mark)
    scales.numbers_beside(axes, [p for p in points if x.beyond(p[1])], x, y, look)
    scales.numbers_above(axes, [p for p in points if y.beyond(p[2])], x, y, look, width=0.14, lift=0.25)


def _equal_sums(axes: Axes, points: Sequence[Point], x: Scale, y: Scale) -> list[Any]:
    """Lines on which x + y is the same, each with its sum where no mark is near; their entry of the legend."""
    from matplotlib.ticker import MaxNLocator

    size = np.array([x.size, y.size])
    line: dict[str, Any] = {"color": LIGHT, "linewidth": 0.8}
    taken = [np.array([x.place(across), y.place(up)]) / size for _, across, up in points]
    drawn = 0
    for level in MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(0, x.edge + y.edge):
        left, right = max(0.0, level - y.edge), min(x.edge, level - max(0.0, y.low))
        if np.linalg.norm((right - left) / size) < 0.15 or right < left:
            continue
        axes.plot([left, right], [level - left, level - right], zorder=1, **line)
        across = np.linspace(0.85 * left + 0.15 * right, 0.15 * left + 0.85 * right, 21)
        places = np.stack([across, level - across], axis=1)
        clear = [min(np.linalg.norm(place / size - other) for other in taken) for place in places]
        best = places[int(np.argmax(clear))]
        taken.append(best / size)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        axes.text(
            best[0], best[1], f"{level:g}", color=GREY, fontsize=7.5, ha="center", va="center", bbox=box, zorder=2
        )
        drawn += 1
    return [key("equal -ELBO", **line)] if drawn else []


def _reference(axes: Axes, level: list[float]) -> list[Any]:
    """The language model's -log p(x) as a horizontal line; its entry of the legend."""
    line: dict[str, Any] = {"color": BLACK, "linewidth": 1.0, "linestyle": REFERENCE}
    for value in level:
        axes.axhline(value, zorder=2, **line)
    return [key(f"language model: {value:.2f}", **line) for value in level]


def _language_model(outcomes: Sequence[Outcome]) -> list[float]:
    """Mean -log p(x) of the language models, nats per sentence, if there are any."""
    values = [run.scores["nll"] for run in outcomes if run.kind == "lm" and _has(run, "nll")]
    return [float(np.mean(values))] if values else []


def _entries(runs: Sequence[Outcome], look: dict[str, Look], **options: Any) -> list[Any]:
    """The recipes in the legend, with marker and dash unless `options` say otherwise."""
    names = {name: look[name] for name in by_name(runs)}
    return [
        key(name, **({"color": given.colour, "marker": given.marker, "linestyle": given.dash} | options))
        for name, given in names.items()
    ]


def _looks(outcomes: Sequence[Outcome]) -> dict[str, Look]:
    return looks({name: runs[0].kind for name, runs in by_name(outcomes).items()})


def _latent(outcomes: Sequence[Outcome], *names: str) -> list[Outcome]:
    """The runs with a latent that have these scores."""
    return [run for run in outcomes if run.kind != "lm" and _has(run, *names)]


def _has(run: Outcome, *names: str) -> bool:
    """Whether the run has these scores, all finite."""
    values = [measured(run.scores, name) for name in names]
    return all(value is not None and np.isfinite(value) for value in values)


def _line(run: Outcome, name: str) -> Line:
    """The validations that measured it."""
    return [(line["step"], value) for line in run.curve if (value := measured(line, name)) is not None]
