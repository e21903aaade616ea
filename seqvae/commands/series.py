"""What the commands do with a model of series; results go to files, or as JSON to standard output."""

import json as json_
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from seqvae import show, show_series
from seqvae.commands.reading import Held
from seqvae.data.series import curves
from seqvae.data.series.corpus import SeriesSplit, load_series
from seqvae.errors import ConfigError, check_folder
from seqvae.evaluation.probes import linear_r2
from seqvae.model.frame_decoding import Unrolled, check_unrolling
from seqvae.reports import series_figures
from seqvae.reports.examine import examine
from seqvae.reports.series_figures import Panel
from seqvae.series_vae import SeriesVAE
from seqvae.training.machine import keep_freed_memory

NO_LABEL: dict[str, Any] = {"source": None, "column": None, "label": None, "label_column": None}  # of series


@dataclass(frozen=True)
class Drawn:
    """Where series go: a .npz file, a picture, or as JSON to standard output."""

    output: Path | None = None
    plot: Path | None = None

    def refuse(self) -> None:
        """For a model of text, whose sentences go to standard output."""
        for name, path in vars(self).items():
            if path is not None:
                raise ConfigError(f"--{name} belongs to models of series; this one is of text: leave it out")

    def check(self, json: bool) -> None:
        """Refuse before any work what cannot be written, or when nothing would be.

        Args:
            json: whether series go to standard output.
        """
        if not (json or self.output or self.plot):
            raise ConfigError("a model of series: write --output FILE.npz, --plot FILE.png or --json")
        if self.output is not None:
            if self.output.suffix != ".npz":
                raise ConfigError(f"--output {self.output}: expected a name that ends in .npz")
            check_folder("--output", self.output)
        if self.plot is not None:
            series_figures.check_plot(self.plot)

    def write(self, found: Unrolled, json: bool, titles: str, originals: Sequence[np.ndarray] | None = None) -> None:
        """Write the series to all that is asked for.

        Args:
            found: what the model said.
            json: also to standard output.
            titles: what each panel of the picture is called, before its number.
            originals: what the series are reconstructions of.
        """
        if json:
            show_series.series(found)
        if self.output is not None:
            lengths = np.array([len(series) for series in found.series])
            arrays = {"values": np.concatenate(found.series), "lengths": lengths, "ended": np.array(found.ended)}
            try:
                np.savez(self.output, **arrays)  # type: ignore[arg-type]
            except OSError as error:
                raise ConfigError(f"--output {self.output} cannot be written: {error.strerror}") from None
        if self.plot is not None:
            beneath = [None] * len(found.series) if originals is None else originals
            pairs = enumerate(zip(found.series, beneath, strict=True), 1)
            series_figures.draw(self.plot, [Panel(f"{titles} {i}", one, original) for i, (one, original) in pairs])


def refuse(given: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
    """Refuse options of text that were given another value than the usual one."""
    for name, value in given.items():
        if value != usual[name]:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} belongs to models of text; this one is of series: leave it out")


def sample(model: SeriesVAE, number: int, drawn: Drawn, *, seed: int | None, json: bool, temperature: float) -> None:
    """Series from the prior."""
    drawn.check(json)
    check_unrolling(temperature=temperature)
    z = model.prior_draws(number, seed=seed)
    drawn.write(model.unrolled(z, seed=seed, temperature=temperature), json, "sample")


def reconstruct(model: SeriesVAE, source: str, drawn: Drawn, *, json: bool) -> None:
    """Each series of a file through its posterior mean and back."""
    drawn.check(json)
    split = read(model, source)
    originals = split.series()
    drawn.write(model.unrolled(model.encode(originals).mode), json, "series", originals)


def interpolate(
    model: SeriesVAE,
    start: str | None,
    end: str | None,
    drawn: Drawn,
    *,
    steps: int,
    path: str,
    seed: int | None,
    json: bool,
) -> None:
    """From the first series of a file to the first of another (or the last of the same); or between two draws."""
    drawn.check(json)
    if start is None:
        z0, z1 = model.prior_draws(2, seed=seed)
    else:
        first = read(model, start)
        last = first if end is None else read(model, end)
        if end is None and len(first) < 2:
            raise ConfigError(f"{start} holds one series: expected two or more, or a second file")
        z0, z1 = model.encode([first[0], last[-1] if end is None else last[0]]).mode
    way = model.walk(z0, z1, steps=steps, path=path)
    drawn.write(model.unrolled(way), json, "step")


def encode(model: SeriesVAE, source: str) -> Any:
    """q(z|x) of the series of a file."""
    return model.encode(read(model, source).series())


def decode(model: SeriesVAE, z: Tensor, drawn: Drawn, *, temperature: float, seed: int | None, json: bool) -> None:
    """A series for each row."""
    drawn.write(model.unrolled(z, temperature=temperature, seed=seed), json, "row")


def evaluate(
    model: SeriesVAE,
    held: Held,
    *,
    folder: str,
    labels: list[str],
    plot: Path | None,
    json: Path | None,
    **options: int,
) -> None:
    """Scores with their definitions, floors, reconstructions, probes and the doctor's line."""
    if plot is not None:
        series_figures.check_plot(plot)
    if labels and not model.model.latent:
        raise ConfigError("--label-column needs posterior means: a model of kind lm has none")
    split, train, notes = held.read_series(model)
    columns = factors(split, labels) if model.model.latent else {}
    for note in notes:
        show.remark(note)
    keep_freed_memory()
    found = examine(model, split, train, folder=folder, **options)
    results: dict[str, Any] = vars(found.scores) | {"floors": found.floors, "diagnosis": vars(found.diagnosis)}
    show.scores(found.scores)
    show.floors(found.floors)
    if model.model.latent:
        tracked = model.track(split)
        show.scores(tracked)
        results["reconstructions"] = vars(tracked)
    if columns:
        results["probes"] = {name: linear_r2(found.table.mean, values) for name, values in columns.items()}
        show_series.factors(results["probes"])
    show.diagnosis(found.diagnosis, at_length=False)
    if plot is not None:
        series_figures.draw(plot, series_figures.overview(model, split))
    if json is not None:
        try:
            json.write_text(json_.dumps(results, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--json {json} cannot be written: {error.strerror}") from None


def factors(split: SeriesSplit, labels: list[str]) -> dict[str, list[float]]:
    """The columns of numbers to be told from the posterior means: those named, else all of `curves`."""
    if not labels and set(curves.FACTORS) <= set(split.columns):
        labels = split.columns
    found = {}
    for label in labels:
        values = split.column(label)
        if not all(isinstance(value, int | float) for value in values):
            raise ConfigError(f"--label-column {label} holds no numbers: name a column of numbers")
        found[label] = [float(value) for value in values]
    return found


def read(model: SeriesVAE, source: str) -> SeriesSplit:
    """All series of a file, in their order."""
    corpus = load_series(source, max_length=model.config.data.max_length, whole=True)
    if corpus.test is None or corpus.train is not None:
        raise ConfigError(f"{source} has several splits: name one file")
    model.expect_channels(corpus.size)
    return corpus.test
