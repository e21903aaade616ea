"""Pictures of series: small panels in a grid, originals in grey beneath what the model makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqvae.data.series.corpus import SeriesSplit
from seqvae.errors import ConfigError, check_folder
from seqvae.latent.paths import sample_prior
from seqvae.reports.figure_style import COLOURS, DOTS, LIGHT, style
from seqvae.series_vae import SeriesVAE

ENDINGS = (".png", ".svg", ".pdf")
WIDE = 6  # panels in a row
MOST = 36  # panels in a picture


@dataclass(frozen=True, eq=False)
class Panel:
    """One small pair of axes.

    Attributes:
        title: what stands above it.
        series: (frames, F), a line in the colour of each channel.
        original: the same, in grey beneath; None = nothing.
    """

    title: str
    series: np.ndarray
    original: np.ndarray | None = None


def check_plot(path: Path) -> None:
    """Refuse before any work what cannot be drawn.

    Raises:
        ConfigError: for a name with another ending, a folder that is not there, or without matplotlib.
    """
    if path.suffix not in ENDINGS:
        raise ConfigError(f"--plot {path}: expected a name that ends in {', '.join(ENDINGS)}")
    check_folder("--plot", path)
    with style():
        pass


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Write a picture of at most 36 panels, all with the same axes.

    Args:
        path: where to; its ending is the format.
        panels: in reading order, six in a row.
    """
    from matplotlib.figure import Figure

    shown = panels[:MOST]
    rows, columns = -(-len(shown) // WIDE), min(WIDE, len(shown))
    with style():
        figure = Figure(figsize=(1.75 * columns + 0.3, 1.35 * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes in grid[len(shown) :]:
            axes.set_axis_off()
        for axes, panel in zip(grid, shown, strict=False):
            axes.set_title(panel.title, fontsize=7)
            axes.tick_params(labelsize=6)
            if panel.original is not None:
                axes.plot(panel.original, color=LIGHT, linewidth=2.6)
            for channel, line in enumerate(panel.series.T):
                marker = "." if len(line) == 1 else None  # a line through one point cannot be seen
                axes.plot(line, color=COLOURS[channel % len(COLOURS)], linewidth=1.1, marker=marker)
        try:
            figure.savefig(path, dpi=DOTS, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise ConfigError(f"--plot {path} cannot be written: {error.strerror}") from None


def overview(model: SeriesVAE, split: SeriesSplit, *, seed: int = 0) -> list[Panel]:
    """Rows of six: held-out series and their reconstructions, draws of the prior without and with noise, two walks.

    Args:
        model: with or without a latent space; without one there are samples alone.
        split: held-out series.
        seed: of the draws.
    """
    z = sample_prior(model.model, WIDE, seed=seed)
    panels = [Panel(f"sample {i}, mean", one) for i, one in enumerate(model.decode(z), 1)]
    noisy = model.decode(z, temperature=1.0, seed=seed)
    panels += [Panel(f"sample {i}, with noise", one) for i, one in enumerate(noisy, 1)]
    if not model.config.model.latent or len(split) < 2:
        return panels
    some = split.at_most(WIDE).series()
    pairs = zip(some, model.reconstruct(some), strict=True)
    again = [Panel(f"held-out {i}, reconstructed", one, original) for i, (original, one) in enumerate(pairs, 1)]
    ways = []
    for start, end in ((0, 1), (2, 3))[: len(some) // 2]:
        way = model.interpolate(some[start], some[end], steps=WIDE)
        ways += [Panel(f"from {start + 1} to {end + 1}, step {i}", one) for i, one in enumerate(way, 1)]
    return [*again, *panels, *ways]
