"""The look of figures: a colour, marker and dash for each recipe, settings of matplotlib, legends and files.

matplotlib is imported inside the functions, and used without pyplot: no window, no global figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqvae.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Colours that can be distinguished with any colour vision, from Okabe & Ito, Color Universal Design, 2008, without its
# yellow, which is too pale on white; black is the language model's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Lengths of dash and gap in turn, in points. The numbers of colours, markers and dashes have no common divisor, so that
# 210 recipes look different.
DASHES: tuple[Any, ...] = (
    "-",
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (3, 1)),
    (0, (6, 1.5, 1.2, 1.5, 1.2, 1.5)),
)
REFERENCE = (0, (6, 2))  # the dash of the language model
BLACK, GREY, LIGHT = "#000000", "#6b6b6b", "#bfbfbf"
DOTS_PER_INCH = 150

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": BLACK,
    "ytick.labelcolor": BLACK,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 6.5,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "seqvae",  # the same figure gives the same file
}


@dataclass(frozen=True)
class Look:
    """The colour, marker and dash of a recipe, each enough to distinguish it from its neighbours."""

    colour: str
    marker: str
    dash: Any


def choose_looks(kinds: Mapping[str, str]) -> dict[str, Look]:
    """Choose the look of each recipe.

    Args:
        kinds: the kind of each recipe by its name, in the order in which they take colours.

    >>> choose_looks({"weight-1": "vae", "small": "lm"})["small"].colour
    '#000000'
    """
    coloured = [name for name, kind in kinds.items() if kind != "lm"]
    look = {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, name in enumerate(coloured)
    }
    return {name: look.get(name, Look(BLACK, "*", REFERENCE)) for name in kinds}


@contextmanager
def use_style() -> Iterator[None]:
    """Use these settings of matplotlib inside a `with` block, then the user's again.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ConfigError('plots need matplotlib: install it with pip install "seqvae[plot]"') from None
    with matplotlib.rc_context(STYLE):
        yield


def make_figure(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """Make a figure as wide as a page's text, with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 3.8), layout="constrained")
    return figure, figure.add_subplot(xlabel=xlabel, ylabel=ylabel)


def make_entry(label: str, **options: Any) -> Any:
    """Make an entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **options)


def add_legend(figure: Figure, entries: Sequence[Any]) -> None:
    """Add a legend beside the axes, where it covers no data."""
    figure.legend(handles=entries, loc="outside right upper", fontsize=8.5, handlelength=2.4)


def save_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Write the figure as PNG and as SVG, and return the path of the SVG."""
    figure.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return folder / f"{name}.svg"
