"""Axes for values of which a few are far off: linear up to an edge, then a shaded band with the numbers written in.

An autoencoder's KL may be 180 nats where every other recipe's is below 20; on one linear axis the others would be one
spot, and on a logarithmic one the lines of equal -ELBO would bend and a KL of 0 could not be drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seqvae.reports.figure_style import GREY, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes


SPREAD = 4.0  # times the range of the lower three quarters of the values: what is further would press these together
BAND = 0.2  # width of a band, as a share of the axis to scale
SHADE = "#efefef"
Point = tuple[str, float, float]  # a recipe's name, x and y


def reach(values: Sequence[float], most: float) -> float:
    """The value beyond which an axis has a band: `most`, or less where all but a few of the values lie close together.

    >>> reach([1.0, 2.0, 3.0, 4.0, 50.0], most=80.0)
    13.0
    """
    low, high = min(values), float(np.quantile(values, 0.75))
    return min(most, low + SPREAD * (high - low)) if high > low else most


@dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `edge`; what lies beyond is drawn in a band from there to `end`.

    >>> Scale.of([0.0, 10.0, 180.0], far=60.0)
    Scale(low=-0.6, edge=10.6, end=12.84)
    """

    low: float
    edge: float
    end: float

    @classmethod
    def of(cls, values: Iterable[float], far: float) -> Scale:
        """The axis that shows all values up to `far` to scale, and has a band if there are others."""
        finite = [value for value in values if np.isfinite(value)]
        near = [value for value in finite if value <= far] or [0.0]
        margin = 0.06 * ((max(near) - min(near)) or abs(max(near)) or 1.0)
        low, edge = min(near) - margin, max(near) + margin
        return cls(low, edge, edge + (BAND * (edge - low) if max(finite, default=0.0) > far else 0.0))

    @property
    def middle(self) -> float:
        """Of the band."""
        return (self.edge + self.end) / 2

    @property
    def size(self) -> float:
        """Of the axis and its band."""
        return self.end - self.low

    def beyond(self, value: float) -> bool:
        """Whether the value is off the scale."""
        return bool(value > self.edge)

    def place(self, value: float) -> float:
        """Where the value is drawn: at its own place, or in the middle of the band."""
        return self.middle if self.beyond(value) else value

    def share(self, value: float) -> float:
        """The place of the value as a share of the axis and its band."""
        return (self.place(value) - self.low) / self.size


def apply(axes: Axes, scale: Scale, axis: str) -> None:
    """Set limits and ticks of the axis `x` or `y`, shade the band and cut the axis in front of it."""
    from matplotlib.ticker import MaxNLocator

    horizontal = axis == "x"
    (axes.set_xlim if horizontal else axes.set_ylim)(scale.low, scale.end)
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(scale.low, scale.edge)
    shown = [float(tick) for tick in ticks if scale.low <= tick <= scale.edge]
    (axes.xaxis if horizontal else axes.yaxis).set_ticks(shown)
    if scale.end == scale.edge:
        return
    if horizontal:
        axes.axvspan(scale.edge, scale.end, color=SHADE, linewidth=0, zorder=0)
        where, cut, transform = (scale.edge, 0.0), [(-0.5, -1.0), (0.5, 1.0)], axes.get_xaxis_transform()
    else:
        axes.axhspan(scale.edge, scale.end, color=SHADE, linewidth=0, zorder=0)
        where, cut, transform = (0.0, scale.edge), [(-1.0, -0.5), (1.0, 0.5)], axes.get_yaxis_transform()
    axes.plot(*where, marker=cut, color=GREY, markersize=9, transform=transform, clip_on=False, zorder=5)


def numbers_beside(axes: Axes, points: Sequence[Point], x: Scale, y: Scale, look: Mapping[str, Look]) -> None:
    """Write the x of what is off to the right into the band, a mean for each recipe, below its mark."""
    means = _means(points)
    depths = apart([0.055 - y.share(up) for _, _, up in means], 0.06, -0.025)
    for (name, across, _), depth in zip(means, depths, strict=True):
        style = _writing(look[name])
        axes.text(x.middle, -depth, f"{across:.3g} →", transform=axes.get_xaxis_transform(), ha="center", **style)


def numbers_above(
    axes: Axes, points: Sequence[Point], x: Scale, y: Scale, look: Mapping[str, Look], *, width: float, lift: float
) -> None:
    """Write the y of what is off above into the band, a mean for each recipe, to the right of its place.

    Args:
        axes: where.
        points: what is off the scale.
        x: of the axes.
        y: of the axes, with a band.
        look: of each recipe.
        width: of a number, as a share of the axes.
        lift: of the numbers above the middle of the band, as a share of it, so that they cover no mark.
    """
    means = _means(points)
    places = apart([x.share(across) + 0.02 for _, across, _ in means], width, 1 - width)
    height = y.middle + lift * (y.end - y.edge)
    for (name, _, up), place in zip(means, places, strict=True):
        style = _writing(look[name])
        axes.text(place, height, f"{up:.3g} ↑", transform=axes.get_yaxis_transform(), ha="left", **style)


def _writing(look: Look) -> dict[str, Any]:
    """Numbers in the recipe's colour, darker so that they can be read."""
    from matplotlib.colors import to_rgb

    colour = tuple(0.7 * part for part in to_rgb(look.colour))
    box = {"facecolor": SHADE, "edgecolor": "none", "pad": 0.5}
    return {"fontsize": 8, "fontweight": "bold", "va": "center", "color": colour, "bbox": box, "zorder": 6}


def _means(points: Sequence[Point]) -> list[Point]:
    """One point for each recipe."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for name, across, up in points:
        groups.setdefault(name, []).append((across, up))
    means = {name: np.mean(group, axis=0) for name, group in groups.items()}
    return [(name, float(across), float(up)) for name, (across, up) in means.items()]


def apart(positions: Sequence[float], gap: float, most: float) -> list[float]:
    """Positions pushed up until they lie `gap` apart, then back down as far as `most` asks for.

    >>> apart([0.5, 0.5, 0.9], 0.25, 1.0)
    [0.5, 0.75, 1.0]
    >>> apart([0.75, 0.75], 0.5, 1.0)
    [0.5, 1.0]
    """
    order = np.argsort(positions, kind="stable")
    result = np.asarray(positions, dtype=float).copy()
    least = -np.inf
    for place in order:
        result[place] = max(result[place], least)
        least = result[place] + gap
    for place in order[::-1]:
        result[place] = min(result[place], most)
        most = result[place] - gap
    return [float(value) for value in result]
