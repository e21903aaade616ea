"""What the commands read for a model and write of what it generates: a class for each class of models."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from torch import Tensor

from seqvae import pretrained
from seqvae.auto import AnyVAE, load
from seqvae.cli import output
from seqvae.cli.shared import Writing
from seqvae.data.series import curves
from seqvae.data.series.corpus import SeriesSplit
from seqvae.data.text.columns import check_encoding
from seqvae.data.text.corpus import TextSplit
from seqvae.data.text.labels import format_label
from seqvae.data.text.sources import open_source
from seqvae.errors import ConfigError, CorpusError, check_output, list_names, write_output
from seqvae.evaluation import probes
from seqvae.evaluation.evaluate import find_factors
from seqvae.evaluation.probes import SeriesScores, linear_r2
from seqvae.reports import series_figures
from seqvae.reports.page.figures import preview_series
from seqvae.reports.series_figures import Panel
from seqvae.series_vae import Series, SeriesVAE
from seqvae.text_vae import Sentence, TextVAE
from seqvae.writing import RULES

M = TypeVar("M", TextVAE, SeriesVAE)
LABEL_OPTIONS = ("label", "label_column")
WORD_OPTIONS = ("allow_unknown", "beam", "min_p", "top_k", "top_p", "length_penalty", "n_best", *RULES)
WIDTH = 80  # characters of a series that is drawn in a line


class Interface(ABC, Generic[M]):
    """What the commands read for a model, and write of what it generates.

    Attributes:
        options: names of the options that this class of models has, of those that not all have.
        hint: options with which a first `seqvae sample` shows most.
    """

    options: ClassVar[frozenset[str]]
    hint: ClassVar[str]

    def __init__(self, model: M) -> None:
        self.model: M = model

    def refuse(self, **given: Any) -> None:
        """Refuse options that were given (none is None, false or 0) and that this class of models has not.

        Raises:
            ConfigError: for the first of them.
        """
        for name, value in given.items():
            if value and name not in self.options:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} does not apply to a model of {self.model.units}: leave it out")

    def check(self, writing: Writing, *read: str | Path) -> None:
        """Refuse before any work what cannot be written, or would be written over a file that is read."""
        self.refuse(output=writing.output, plot=writing.plot)

    @abstractmethod
    def write(
        self,
        generated: Sequence[Any],
        writing: Writing,
        title: str,
        *,
        originals: Sequence[Any] | None = None,
        facts: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write what the model has generated.

        Args:
            generated: what `generate` of the model returns.
            writing: where to.
            title: of each panel of a picture, before its number.
            originals: what each is the reconstruction of.
            facts: what else is known of each, for JSON.
        """

    @abstractmethod
    def read_file(self, source: str, column: str | None, label_column: str | None) -> tuple[list[Any], Any]:
        """Read what a file, or standard input (`-`), holds, in its order and with its duplicates.

        Returns:
            the sentences or series, and the labels of `label_column`, if it is given.
        """

    @abstractmethod
    def read_ends(self, start: str | None, end: str | None) -> list[Any] | None:
        """Read the two ends of an interpolation from its arguments; None without any."""

    @abstractmethod
    def read_factors(self, split: Any, columns: Sequence[str]) -> dict[str, list[Any]]:
        """Return the columns to be predicted from the posterior means; those of built-in corpora by default.

        Raises:
            ConfigError: for a column that is not there, or that cannot be predicted.
        """

    @abstractmethod
    def probe(self, means: Tensor, split: Any, columns: Mapping[str, list[Any]]) -> Any:
        """Predict each column from the posterior means (N, D); the results as for JSON."""

    @abstractmethod
    def print_probes(self, found: Any) -> None:
        """Print the results of `probe`."""

    def score_reconstructions(self, split: Any) -> SeriesScores | None:
        """Score the reconstructions of a split, where that is part of every evaluation."""
        return None

    def plot_overview(self, path: Path, split: Any) -> None:
        """Draw reconstructions, samples and interpolations; only where there is an option `plot`."""

    @abstractmethod
    def preview(self, item: Any) -> str:
        """Return a sentence or series as a line of text."""

    @abstractmethod
    def describe(self) -> list[tuple[str, str]]:
        """Return names and values of what only models of this class have."""


class TextInterface(Interface[TextVAE]):
    """Sentences: read from files with a sentence a line, written to standard output."""

    options = frozenset([*LABEL_OPTIONS, *WORD_OPTIONS, "from", "language_model", "text", "validator"])
    hint = ""

    def write(
        self,
        generated: Sequence[Sentence],
        writing: Writing,
        title: str,
        *,
        originals: Sequence[str] | None = None,
        facts: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Print one sentence a line, or one JSON object a line."""
        for i, sentence in enumerate(generated):
            if writing.json:
                original = {} if originals is None else {"original": originals[i]}
                output.print_json({**original, **vars(sentence), **(facts[i] if facts else {})})
            else:
                print(sentence.text)

    def read_file(
        self, source: str, column: str | None, label_column: str | None
    ) -> tuple[list[str], list[str] | None]:
        """Read the sentences, and leave out blank lines."""
        dataset, name = open_file(source, column)
        lines = dataset[name]
        texts = [text for text in lines if text and text.strip()]
        if not texts:
            raise CorpusError(f"{source} holds only blank lines")
        if blank := len(lines) - len(texts):
            output.log(f"{blank:,} blank lines skipped: results follow the other {len(texts):,} in order")
        if label_column is None:
            return texts, None
        if label_column not in dataset.column_names:
            known = list_names(dataset.column_names)
            raise ConfigError(f"--label-column {label_column}: {source} has no such column; its columns are: {known}")
        check_encoding(source, dataset, label_column)
        pairs = zip(lines, dataset[label_column], strict=True)
        return texts, [format_label(value, label_column) for text, value in pairs if text and text.strip()]

    def read_ends(self, start: str | None, end: str | None) -> list[str] | None:
        """Take both sentences, or none."""
        if start is None and end is None:
            return None
        if start is None or end is None:
            raise ConfigError("one sentence was given: expected two (START END), or none for two samples of the prior")
        return [start, end]

    def read_factors(self, split: TextSplit, columns: Sequence[str]) -> dict[str, list[Any]]:
        """Return columns of labels, by default the factors of the built-in grammar."""
        found = {name: split.column(name) for name in columns or find_factors(split)}
        for name, values in found.items():
            probes.check_label(name, values)
        return found

    def probe(self, means: Tensor, split: TextSplit, columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
        """Predict labels by a linear classifier."""
        return [vars(found) for found in probes.probe_labels(means, split.sequences(range(len(split))), columns)]

    def print_probes(self, found: list[dict[str, Any]]) -> None:
        """Print their accuracies."""
        output.print_probes(found)

    def preview(self, item: str) -> str:
        """Return the sentence."""
        return item

    def describe(self) -> list[tuple[str, str]]:
        """Return labels and tokenizer."""
        tokenizer = self.model.tokenizer
        labels = [("labels", pretrained.describe_labels(self.model.checkpoint))] if self.model.labels else []
        return [*labels, ("tokenizer", f"{tokenizer.kind}, {len(tokenizer):,} tokens")]


class SeriesInterface(Interface[SeriesVAE]):
    """Series: read from files of arrays; written to one, as a picture, or as JSON to standard output."""

    options = frozenset(["output", "plot"])
    hint = "--plot samples.png"

    def check(self, writing: Writing, *read: str | Path) -> None:
        """Refuse before any work what cannot be written, or when nothing would be."""
        super().check(writing, *read)
        if not (writing.json or writing.output or writing.plot):
            raise ConfigError("a model of series: write --output FILE.npz, --plot FILE.png or --json")
        if writing.output is not None:
            if writing.output.suffix != ".npz":
                raise ConfigError(f"--output {writing.output}: expected a name that ends in .npz")
            check_output("--output", writing.output, *read)
        if writing.plot is not None:
            series_figures.check_plot(writing.plot)

    def write(
        self,
        generated: Sequence[Series],
        writing: Writing,
        title: str,
        *,
        originals: Sequence[np.ndarray] | None = None,
        facts: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write the series to all that is asked for: JSON, a .npz file, a picture."""
        if writing.json:
            for series in generated:
                output.print_json(vars(series) | {"frames": series.frames.tolist()})
        if writing.output is not None:
            _save(writing.output, generated)
        if writing.plot is not None:
            beneath = [None] * len(generated) if originals is None else originals
            pairs = enumerate(zip(generated, beneath, strict=True), 1)
            panels = [Panel(f"{title} {i}", series.frames, original) for i, (series, original) in pairs]
            series_figures.draw_panels(writing.plot, panels)

    def read_file(self, source: str, column: str | None, label_column: str | None) -> tuple[list[np.ndarray], None]:
        """Read all series of a file."""
        corpus = self.model.load_corpus(source, column=column, whole=True)
        if corpus.test is None or corpus.train is not None:
            raise CorpusError(f"{source} has several splits: name one file")
        return corpus.test.series(), None

    def read_ends(self, start: str | None, end: str | None) -> list[np.ndarray] | None:
        """Read the first series of a file and the first of another, or the last of the same."""
        if start is None:
            return None
        first, _ = self.read_file(start, None, None)
        if end is not None:
            return [first[0], self.read_file(end, None, None)[0][0]]
        if len(first) < 2:
            raise ConfigError(f"{start} holds one series: expected two or more, or a second file")
        return [first[0], first[-1]]

    def read_factors(self, split: SeriesSplit, columns: Sequence[str]) -> dict[str, list[float]]:
        """Return columns of numbers, by default those of the built-in curves."""
        if not columns and set(curves.FACTORS) <= set(split.columns):
            columns = split.columns
        found = {}
        for column in columns:
            values = split.column(column)
            if not all(isinstance(value, int | float) for value in values):
                raise ConfigError(f"--label-column {column} holds no numbers: name a column of numbers")
            found[column] = [float(value) for value in values]
        return found

    def probe(self, means: Tensor, split: SeriesSplit, columns: Mapping[str, list[float]]) -> dict[str, float]:
        """Predict numbers by a linear map: the R^2 of each column."""
        return {name: linear_r2(means, values) for name, values in columns.items()}

    def print_probes(self, found: dict[str, float]) -> None:
        """Print their R^2."""
        output.print_linear_probes(found)

    def score_reconstructions(self, split: SeriesSplit) -> SeriesScores | None:
        """Compare series with their reconstructions, where there is a latent space."""
        return self.model.score_reconstructions(split) if self.model.model.latent else None

    def plot_overview(self, path: Path, split: SeriesSplit) -> None:
        """Draw small panels in a grid."""
        series_figures.draw_panels(path, series_figures.make_overview(self.model, split))

    def preview(self, item: np.ndarray) -> str:
        """Draw the first channel in a line of text."""
        return preview_series(item, WIDTH)

    def describe(self) -> list[tuple[str, str]]:
        """Return mean and standard deviation of each channel."""
        scaler = self.model.frames.scaler
        pairs = enumerate(zip(scaler.mean.tolist(), scaler.std.tolist(), strict=True))
        return [(f"channel {i}", f"mean {mean:.4g}, standard deviation {std:.4g}") for i, (mean, std) in pairs]


def open_file(source: str, column: str | None) -> tuple[Any, str]:
    """Open a file of sentences: its data set and the name of their column.

    Raises:
        CorpusError: if it cannot be read, or comes in splits.
    """
    opened = open_source(source, column)
    if len(opened.datasets) > 1:
        raise CorpusError(f"{source} has several splits: name one file")
    ((split, dataset),) = opened.datasets.items()
    return dataset, opened.columns[split]


def _save(path: Path, generated: Sequence[Series]) -> None:
    """Write series as a .npz file: `values` (all frames), `lengths` and `ended`."""
    lengths = np.array([len(series.frames) for series in generated])
    values = np.concatenate([series.frames for series in generated])
    ended = np.array([series.ended for series in generated])

    def write(beside: Path) -> None:
        with open(beside, "wb") as file:  # np.savez would add an ending to the name
            np.savez(file, values=values, lengths=lengths, ended=ended)

    try:
        write_output(path, write)
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}") from None


INTERFACES: dict[str, type[Interface[Any]]] = {TextVAE.unit: TextInterface, SeriesVAE.unit: SeriesInterface}


def open_interface(name: str, parts: list[str] | None = None) -> Interface[Any]:
    """Load a model, of whatever class, with what the commands read and write for it."""
    return make_interface(load(name, parts=parts or ()))


def make_interface(model: AnyVAE) -> Interface[Any]:
    """Make the interface of a model."""
    return INTERFACES[model.unit](model)
