"""The figures of the page: the map of the latent space, the curves of the training, the KL of each dimension."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqvae.auto import AnyVAE
from seqvae.evaluation.scores import Scores
from seqvae.reports.page.drawing import Frame, Scale, make_frame, make_scale, project
from seqvae.reports.page.examples import choose_options, read_items
from seqvae.series_vae import draw_line
from seqvae.training.checkpoint import read_metrics

POINTS, PRIOR_POINTS = 1000, 250  # on the map, at most
GROUPS = 6  # colours and marks: so many labels are told apart, the others are one group; so many classes of length - 1
CHARACTERS = 160  # of a sentence that is shown at a point
FRAMES = 24  # characters of a series that is drawn in a line of text
DIMENSIONS = 256  # bars at most


@dataclass(frozen=True)
class Point:
    """A point on the map: its position and what is there."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Group:
    """Points of one colour and mark, with their name in the legend."""

    name: str
    points: list[Point]


@dataclass(frozen=True)
class Map:
    """The latent space from its principal components.

    Attributes:
        frame: its axes.
        groups: held-out items, by label or by length.
        prior: samples from the prior.
        variance: fraction of the variance of the posterior means along each axis.
        by: what the groups are of.
        ordered: whether their order means something.
    """

    frame: Frame
    groups: list[Group]
    prior: list[Point]
    variance: list[float]
    by: str
    ordered: bool


def draw_map(model: AnyVAE, split: Any, means: np.ndarray, *, seed: int = 0) -> Map | None:
    """Draw the posterior means of held-out items with samples from the prior; None if there is no plane to draw in.

    Args:
        model: with a latent space.
        split: N held-out items.
        means: (N, D), their posterior means in the order of the split.
        seed: of the samples.
    """
    if len(split) < 3 or means.shape[1] < 1:
        return None
    rows = np.unique(np.linspace(0, len(split) - 1, min(POINTS, len(split))).round().astype(int))
    some = split.select(rows.tolist())
    vae: Any = model
    labels = vae.sample_labels(PRIOR_POINTS, seed=seed)
    z = model.sample_prior(PRIOR_POINTS, seed=seed)
    decoded = vae.decode(z, labels=labels, seed=seed, temperature=choose_options(model).get("temperature", 1.0))
    points, prior, variance = project(means[rows].astype(float), z.cpu().numpy().astype(float))
    inside = _keep_near(points, prior)
    together = np.concatenate([points, prior[inside]])
    frame = make_frame(together[:, 0].tolist(), together[:, 1].tolist(), 520)
    texts = [shorten_item(item) for item in read_items(model, some, range(len(some)))]
    held_out = [Point(*frame.place(*at), text) for at, text in zip(points.tolist(), texts, strict=True)]
    names, numbers, by, ordered = group_items(model, some)
    groups = [
        Group(name, [p for p, n in zip(held_out, numbers, strict=True) if n == i]) for i, name in enumerate(names)
    ]
    beside = [Point(*frame.place(*prior[i]), shorten_item(decoded[i])) for i in np.flatnonzero(inside).tolist()]
    return Map(frame, [group for group in groups if group.points], beside, variance, by, ordered)


def _keep_near(points: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Tell (M,) which samples are not both beyond the points and among the outermost, which would shrink the map."""
    low = np.minimum(points.min(0), np.quantile(prior, 0.02, axis=0))
    high = np.maximum(points.max(0), np.quantile(prior, 0.98, axis=0))
    near: np.ndarray = ((prior >= low) & (prior <= high)).all(1)
    return near


def group_items(model: AnyVAE, split: Any) -> tuple[list[str], list[int], str, bool]:
    """Group items by label, or else by length.

    Returns:
        the names of the groups, the number of the group of each item, what they are of, and whether they are ordered.
    """
    labels: list[str] | None = model.read_labels(split)
    if labels is not None:
        common = sorted(model.labels, key=model.checkpoint.labels.__getitem__, reverse=True)
        names = common if len(common) <= GROUPS else [*common[: GROUPS - 1], "others"]
        place = {name: min(i, len(names) - 1) for i, name in enumerate(common)}
        return names, [place[label] for label in labels], str(model.config.data.label_column), False
    lengths = split.lengths - split.complete
    unit = "frames" if model.unit == "series" else "tokens"
    values = np.unique(lengths)
    if len(values) >= GROUPS:
        values = np.unique(np.quantile(lengths, np.linspace(0, 1, GROUPS)[:-1]).round().astype(int))
    bounds = list(zip(values.tolist(), [*(values[1:] - 1).tolist(), int(lengths.max())], strict=True))
    names = [f"{low} to {high} {unit}" if high > low else f"{low} {unit}" for low, high in bounds]
    return names, (np.searchsorted(values, lengths, side="right") - 1).tolist(), "length", True


def shorten_item(item: Any) -> str:
    """Return a sentence, or a series as a line of text, short enough to be shown at a point."""
    if isinstance(item, str):
        return item if len(item) <= CHARACTERS else item[: CHARACTERS - 1] + "…"
    return preview_series(item, FRAMES)


def preview_series(series: np.ndarray, width: int) -> str:
    """Draw the first channel of a series in a line of text of at most `width` characters."""
    if len(series) > width:
        series = series[np.linspace(0, len(series) - 1, width).round().astype(int)]
    return draw_line(series)


# -- curves -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """A line: its name, the corners of it, and what is at each."""

    name: str
    trace: str
    points: list[Point]


@dataclass(frozen=True)
class Curves:
    """The curves of a training: the bound and its parts, and below them the weight of the KL.

    Attributes:
        bound: axes in nats; `lines` are drawn in them.
        weight: axes of the weight; None where there is no latent space; `weight_line` is drawn in them.
        kept: the step of the kept model, and its position.
    """

    bound: Frame
    lines: list[Curve]
    weight: Frame | None
    weight_line: Curve | None
    kept: tuple[int, float] | None


def read_validations(path: Path) -> list[dict[str, Any]]:
    """Read the validations of metrics.jsonl; none if there is no such file, incomplete lines left out."""
    names = ("step", "elbo", "reconstruction", "kl", "weight")
    valid = [entry for entry in read_metrics(path) if entry.get("kind") == "valid"]
    numbers = [[entry.get(name) for name in names] for entry in valid]
    whole = [all(isinstance(n, int | float) and math.isfinite(n) for n in row) for row in numbers]
    return list(itertools.compress(valid, whole))


def draw_curves(validations: Sequence[dict[str, Any]], *, latent: bool) -> Curves | None:
    """Draw the validations of a training; None without any.

    Args:
        validations: as `read_validations` returns them.
        latent: whether the model has a latent space; without one there is the bound alone.
    """
    if not validations:
        return None
    steps = [entry["step"] for entry in validations]
    values = {"-ELBO": [-entry["elbo"] for entry in validations]}
    if latent:
        values |= {name: [entry[key] for entry in validations] for name, key in PARTS.items()}
    frame = make_frame(steps, [value for line in values.values() for value in line], 380, whole_steps=True)
    lowest = min(value for line in values.values() for value in line)
    if lowest < 0:  # of series, whose densities can be above 1
        highest = max(value for line in values.values() for value in line)
        room = 0.06 * (highest - lowest)
        frame = Frame(380, frame.x, make_scale(lowest - room, highest + room, frame.y.start, frame.y.end, most=5))
    names = values if latent else {"-log p(x)": values["-ELBO"]}
    lines = [_make_curve(frame, name, steps, line, " nats") for name, line in names.items()]
    weights = [float(entry["weight"]) for entry in validations]
    below = make_frame(steps, weights, 150, whole_steps=True) if latent else None
    kept = [entry["step"] for entry in validations if entry.get("kept")]
    return Curves(
        frame,
        lines,
        below,
        _make_curve(below, "weight of the KL", steps, weights, "") if below else None,
        (kept[-1], frame.x.place(kept[-1])) if kept else None,
    )


PARTS = {"reconstruction": "reconstruction", "KL": "kl"}


def _make_curve(frame: Frame, name: str, steps: Sequence[int], values: Sequence[float], unit: str) -> Curve:
    pairs = list(zip(steps, values, strict=True))
    points = [Point(*frame.place(s, v), f"step {s:,}: {name} {v:.4g}{unit}") for s, v in pairs]
    return Curve(name, frame.trace(pairs), points)


# -- dimensions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """A bar: its left edge, its upper edge, its width, and what it is."""

    x: float
    y: float
    width: float
    text: str


@dataclass(frozen=True)
class Bars:
    """Bars of the dimensions of z, the largest first: the KL of each, or the variances of the posterior means.

    Attributes:
        height: of the drawing; its bars end at `y.start`.
        y: the vertical scale.
        bars: the bars.
        of_kl: whether they are KLs; a prior that does not factorize has none for each dimension.
    """

    height: int
    y: Scale
    bars: list[Bar]
    of_kl: bool


def draw_bars(scores: Scores) -> Bars | None:
    """Draw the KL of each dimension, or the variances where the KL is no sum over dimensions; None without both."""
    of_kl = bool(scores.kl_dimensions)
    if of_kl:
        pairs = sorted(enumerate(scores.kl_dimensions or ()), key=lambda pair: -pair[1])
        texts = [f"dimension {i}: {value:.3f} nats" for i, value in pairs]
    else:
        pairs = list(enumerate(scores.variances or ()))
        texts = [f"number {i + 1}: {value:.3f} times the variance of the prior" for i, value in pairs]
    if not pairs or not all(math.isfinite(value) for _, value in pairs):
        return None
    pairs, texts = pairs[:DIMENSIONS], texts[:DIMENSIONS]
    frame = make_frame([0, 1], [max(value, 0.0) for _, value in pairs], 220, whole_steps=True)
    step = (frame.x.end - frame.x.start) / len(pairs)
    bars = [
        Bar(round(frame.x.start + i * step, 1), frame.y.place(max(value, 0.0)), round(step * 0.82, 1), text)
        for i, ((_, value), text) in enumerate(zip(pairs, texts, strict=True))
    ]
    return Bars(220, frame.y, bars, of_kl)
