"""Where things are in the drawings of the page: scales, ticks, points and lines in the units of an SVG's viewBox.

The template writes the SVG; no plotting package is needed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

WIDTH = 720  # of every drawing with axes
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 14, 56  # margins
STEPS = (1, 2, 5, 10)  # a tick is at a multiple of one of these times a power of ten
THIN = 160  # points of a line of a small panel, at most


@dataclass(frozen=True)
class Scale:
    """A linear map from values to positions, and its ticks.

    Attributes:
        low: the value at `start`; `high`, that at `end`.
        ticks: position and text of each.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: list[tuple[float, str]]

    def place(self, value: float) -> float:
        """Return the position of a value, to a tenth."""
        reach = self.high - self.low or 1.0
        return round(self.start + (value - self.low) / reach * (self.end - self.start), 1)


@dataclass(frozen=True)
class Frame:
    """The axes of a drawing: a size and two scales; its y scale runs upwards."""

    height: int
    x: Scale
    y: Scale
    width: int = WIDTH

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the position of a point."""
        return self.x.place(x), self.y.place(y)

    def trace(self, points: Iterable[tuple[float, float]]) -> str:
        """Return the `points` of a polyline."""
        return " ".join("{:g},{:g}".format(*self.place(*point)) for point in points)


def make_frame(xs: Sequence[float], ys: Sequence[float], height: int, *, whole_steps: bool = False) -> Frame:
    """Make axes that hold all values, with a little room; with `whole_steps` both begin at 0 and x is not widened."""
    x_low, x_high = (0.0, max(xs)) if whole_steps else widen(xs)
    y_low, y_high = (0.0, max(ys) * 1.06 or 1.0) if whole_steps else widen(ys)
    x = make_scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    return Frame(height, x, make_scale(y_low, y_high, height - BOTTOM, TOP, most=max(2, height // 75)))


def make_scale(low: float, high: float, start: float, end: float, most: int = 6) -> Scale:
    """Make a scale with about `most` ticks."""
    blank = Scale(low, high, start, end, [])
    return Scale(
        low, high, start, end, [(blank.place(tick), format_tick(tick)) for tick in choose_ticks(low, high, most)]
    )


def choose_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose about `most` round values between two.

    >>> choose_ticks(0, 97, 6), choose_ticks(-0.31, 0.42, 4)
    ([0.0, 20.0, 40.0, 60.0, 80.0], [-0.2, 0.0, 0.2, 0.4])
    """
    reach = high - low
    if not reach > 0 or not math.isfinite(reach):
        return [low]
    power = 10.0 ** math.floor(math.log10(reach / most))
    step = next(s * power for s in (*STEPS, 20) if reach / (s * power) <= most or s == 20)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def format_tick(value: float) -> str:
    """Format a value of an axis.

    >>> format_tick(15000.0), format_tick(0.2), format_tick(-0.0)
    ('15,000', '0.2', '0')
    """
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def widen(values: Sequence[float], room: float = 0.04) -> tuple[float, float]:
    """Return the least and the largest value, moved apart by a fraction of their distance."""
    low, high = min(values), max(values)
    reach = (high - low) or 1.0
    return low - room * reach, high + room * reach


def project(means: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Project points onto the two principal components of `means`.

    Args:
        means: (N, D), which the components are those of.
        others: (M, D), projected alike.

    Returns:
        (N, 2) and (M, 2), and the fraction of the variance along each of the two components.

    >>> project(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[1.0, 5.0]]))[2]
    [1.0, 0.0]
    """
    centre = means.mean(0)
    _, singular, axes = np.linalg.svd(means - centre, full_matrices=False)
    axes = np.pad(axes, ((0, max(0, 2 - len(axes))), (0, 0)))[:2]
    axes = axes * np.where(axes[np.arange(2), np.abs(axes).argmax(1)] < 0, -1, 1)[:, None]  # the sign is arbitrary
    variances = np.pad(singular**2, (0, 2))
    total = variances.sum() or 1.0
    return (means - centre) @ axes.T, (others - centre) @ axes.T, [float(v / total) for v in variances[:2]]


def draw_panel(
    series: np.ndarray, low: float, high: float, frames: int, width: int = 150, height: int = 56
) -> list[str]:
    """Return the `points` of the line of each channel of a series (frames, F) in a small panel.

    Args:
        series: a long one is thinned out.
        low: value at the lower edge.
        high: value at the upper edge.
        frames: number of frames that fill the width.
        width: of the panel.
        height: of the panel.
    """
    rows = np.unique(np.linspace(0, max(0, len(series) - 1), min(THIN, len(series))).round().astype(int))
    x, y = Scale(0, max(1, frames - 1), 2, width - 2, []), Scale(low, high, height - 3, 3, [])
    lines = []
    for channel in series[rows].T:
        points = [(x.place(row), y.place(value)) for row, value in zip(rows.tolist(), channel.tolist(), strict=True)]
        points = points * 2 if len(points) == 1 else points
        lines.append(" ".join(f"{a:g},{b:g}" for a, b in points))
    return lines
