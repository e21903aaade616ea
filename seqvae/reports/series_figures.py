"""Figures of series: small panels in a grid, originals in grey beneath their reconstructions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqvae.data.series.corpus import SeriesSplit
from seqvae.errors import ConfigError, check_folder, write_output
from seqvae.latent.paths import sample_prior
from seqvae.reports.figure_style import COLOURS, DOTS_PER_INCH, LIGHT, use_style
from seqvae.series_vae import SeriesVAE

ENDINGS = (".png", ".svg", ".pdf")
COLUMNS = 6  # panels in a row
LARGEST = 36  # panels in a figure


@dataclass(frozen=True, eq=False)
class Panel:
    """One small pair of axes.

    Attributes:
        title: shown above it.
        series: (frames, F), drawn as a line in the colour of each channel.
        original: (frames, F), drawn in grey beneath; None = nothing.
    """

    title: str
    series: np.ndarray
    original: np.ndarray | None = None


def check_plot(path: Path) -> None:
    """Check before any work that the figure can be written.

    Raises:
        ConfigError: for an unknown ending, a folder that does not exist, or without matplotlib.
    """
    if path.suffix not in ENDINGS:
        raise ConfigError(f"--plot {path}: expected a name that ends in {', '.join(ENDINGS)}")
    check_folder("--plot", path)
    with use_style():
        pass


def draw_panels(path: Path, panels: Sequence[Panel]) -> None:
    """Write a figure of at most 36 panels, all with the same axes.

    Args:
        path: of the file; its ending is the format.
        panels: in reading order, six in a row.

    Raises:
        ConfigError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    shown = panels[:LARGEST]
    rows, columns = -(-len(shown) // COLUMNS), min(COLUMNS, len(shown))
    with use_style():
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
            ending, metadata = path.suffix[1:], {"Date": None} if path.suffix == ".svg" else None
            write_output(
                path, lambda beside: figure.savefig(beside, format=ending, dpi=DOTS_PER_INCH, metadata=metadata)
            )
        except OSError as error:
            raise ConfigError(f"--plot {path} cannot be written: {error.strerror}") from None


def make_overview(model: SeriesVAE, split: SeriesSplit, *, seed: int = 0) -> list[Panel]:
    """Make rows of six: held-out series reconstructed, samples from the prior without and with noise, interpolations.

    Args:
        model: with or without a latent space; without one there are samples alone.
        split: held-out series.
        seed: of the samples.
    """
    z = sample_prior(model.model, COLUMNS, seed=seed)
    samples = [Panel(f"sample {i}, mean", series) for i, series in enumerate(model.decode(z), 1)]
    noisy = model.decode(z, temperature=1.0, seed=seed)
    samples += [Panel(f"sample {i}, with noise", series) for i, series in enumerate(noisy, 1)]
    if not model.config.model.latent or len(split) < 2:
        return samples
    originals = split.at_most(COLUMNS).series()
    pairs = zip(originals, model.reconstruct(originals), strict=True)
    reconstructed = [Panel(f"held-out {i}, reconstructed", again, one) for i, (one, again) in enumerate(pairs, 1)]
    interpolated = []
    for first, last in ((0, 1), (2, 3))[: len(originals) // 2]:
        steps = model.interpolate(originals[first], originals[last], steps=COLUMNS)
        interpolated += [Panel(f"from {first + 1} to {last + 1}, step {i}", one) for i, one in enumerate(steps, 1)]
    return [*reconstructed, *samples, *interpolated]
