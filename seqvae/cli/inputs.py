"""Which data a command reads: to score, to fit a density to, to learn an attribute from, or to work on."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqvae.auto import AnyVAE
from seqvae.cli.interfaces import Interface
from seqvae.cli.shared import Density
from seqvae.data.corpus import BUILT_IN_TEXTS
from seqvae.data.text.corpus import TextSplit
from seqvae.data.text.unknown import silence_unknown
from seqvae.errors import ConfigError, CorpusError, SeqVAEError, list_names
from seqvae.latent import steering
from seqvae.latent.density import MAX_SAMPLES, AggregateDensity, check_confidence
from seqvae.text_vae import ROWS, TextVAE

CLASS_SIZE = 5_000  # sentences with an attribute, and without it, that its direction is learnt from, at most
IN_MEMORY = ("sentences", "series")  # names of corpora that cannot be read again
UNKNOWN_OVERLAP = (
    "whether part of what is scored was trained on is not known: the training corpus can no longer be read"
)


@dataclass(frozen=True)
class Selection:
    """Which data to score: a `split` of `corpus` (None: that of the training), at most `limit` sentences of it."""

    corpus: str | None
    split: str
    column: str | None
    limit: int | None

    def read(self, model: AnyVAE) -> tuple[Any, Any, list[str]]:
        """Read the split, and the training split if the corpus is that of the training, else None.

        Returns:
            both, and notes on what is scored, to be logged once it is known that it will be.
        """
        if self.limit is not None and self.limit < 2:
            raise ConfigError(f"--limit {self.limit}: expected 2 or more {model.units}")
        if self.corpus is None and is_unnamed(model):
            raise ConfigError("the model was trained on standard input or a list in memory: name the corpus to score")
        try:
            corpus = model.load_corpus(self.corpus, column=self.column)
        except CorpusError as error:
            if self.corpus is None and model.config.corpus not in BUILT_IN_TEXTS:
                raise CorpusError(f"{error}; if the corpus has moved, name the place where it is now") from None
            raise
        if self.split not in corpus.splits:
            raise CorpusError(f"{corpus.name} has no {self.split} {model.units}; it has: {', '.join(corpus.splits)}")
        split = corpus.splits[self.split].at_most(self.limit)
        facts, by_name = model.checkpoint.facts, model.is_training_corpus(self.corpus)
        if not by_name and corpus.content != facts.get("content"):
            return split, None, find_overlap(model, split)
        notes = []
        if not by_name:
            notes.append(f"{self.corpus} is the corpus of the training: its {self.split} {model.units} are scored")
        elif facts.get("fingerprint", "") not in ("", corpus.fingerprint):
            changed = f"{model.config.corpus} has changed since the training"
            notes.append(f"{changed}: part of what is scored may have been trained on")
        return split, corpus.train if self.split != "train" else None, notes


def is_unnamed(model: AnyVAE) -> bool:
    """Tell whether the data that the model was trained on cannot be read again."""
    return model.config.corpus == "-" or model.checkpoint.facts.get("corpus") in IN_MEMORY


def find_overlap(model: AnyVAE, split: Any) -> list[str]:
    """Count the items of another corpus that were trained on, as a note; no note where there are none."""
    keys = None
    if not is_unnamed(model):
        with suppress(SeqVAEError):
            keys = model.read_training_keys()
    if keys is None:
        return [UNKNOWN_OVERLAP]
    seen = int(np.isin(split.keys, keys).sum())
    note = f"{seen:,} of the {len(split):,} {model.units} that are scored were trained on: new ones would score worse"
    return [note] if seen else []


def read_training_texts(model: TextVAE) -> tuple[Iterable[str] | None, str]:
    """Read the training sentences as the model would write them; or return None, and why they cannot be known."""
    if is_unnamed(model):
        return None, "the model was trained on standard input or a list in memory"
    try:
        corpus = model.load_corpus()
    except SeqVAEError as error:
        return None, str(error)
    train = corpus.train
    if train is None or model.checkpoint.facts.get("fingerprint", "") not in ("", corpus.fingerprint):
        return None, f"{model.config.corpus} has changed since the training"
    parts = (range(i, min(i + ROWS, len(train))) for i in range(0, len(train), ROWS))
    return (text for part in parts for text in model.tokenizer.decode_batch(train.sequences(part))), ""


def read_items(
    interface: Interface[Any], source: str, *, column: str | None, label: str | None, label_column: str | None
) -> tuple[list[Any], Any]:
    """Read the sentences or series to work on, and their labels where the model is conditioned on these.

    Raises:
        ConfigError: for labels that the model does not know, or that it needs and are not given.
    """
    check_labels(interface, label, label_column)
    items, labels = interface.read_file(source, column, label_column)
    given = label if labels is None else labels
    interface.model.number_labels(given, len(items))
    return items, given


def check_labels(interface: Interface[Any], label: str | None, label_column: str | None) -> None:
    """Refuse before any work options of labels that do not go together, or not with the model.

    Raises:
        ConfigError: for the first of them.
    """
    model = interface.model
    interface.refuse(label=label, label_column=label_column)
    if label is not None and label_column is not None:
        raise ConfigError("--label and --label-column were both given: leave one of them out")
    if model.labels and label is None and label_column is None:
        raise ConfigError(
            f"the model needs a label of each sentence: write --label with one of {list_names(model.labels)}; "
            "or --label-column with the column of a table that holds them"
        )


# -- densities --------------------------------------------------------------------------------------------------------


def check_density(options: Density) -> None:
    """Refuse before any work options of `--from aggregate` that cannot be used."""
    given = [name for name, value in vars(options).items() if name != "source" and value is not None]
    if options.source == "prior" and given:
        raise ConfigError(f"--{given[0].replace('_', '-')} belongs to --from aggregate: write that too")
    if options.components is not None and options.density not in (None, "mixture"):
        raise ConfigError(f"--components belongs to --density mixture: leave it out for a {options.density}")
    check_confidence(options.min_confidence or 0.0)


def read_splits(model: AnyVAE, corpus: str | None, column: str | None, purpose: str) -> dict[str, Any]:
    """Read the splits of the corpus of the training, or of another; `purpose` is what their sentences are for.

    Raises:
        ConfigError: if the corpus of the training is not there any more, or never was a file.
    """
    if corpus is None and is_unnamed(model):
        raise ConfigError("the model was trained on standard input or a list in memory: write --corpus FILE")
    try:
        whole = not model.is_training_corpus(corpus)
        return dict(model.load_corpus(corpus, column=column, whole=whole).splits)
    except CorpusError as error:
        if corpus is not None:
            raise
        raise ConfigError(f"{error}; or write --corpus FILE to {purpose} other sentences") from None


def fit_density(model: TextVAE, options: Density) -> AggregateDensity:
    """Fit a density to the posteriors of some training sentences of the model, or of those of `--corpus`."""
    if not model.model.latent:
        raise ConfigError("--from aggregate needs a latent space: a model of kind lm has none")
    splits = read_splits(model, options.corpus, options.column, "fit to")
    split = splits["train" if "train" in splits else "test"].at_most(MAX_SAMPLES)
    with silence_unknown():
        return model.aggregate(
            split.texts(),
            labels=model.read_labels(split),
            density=options.density or "mixture",
            components=options.components,
        )


# -- attributes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attribute:
    """A value of a column of labels, in the corpus of the training, or in `corpus`."""

    label_column: str
    value: str
    corpus: str | None
    column: str | None

    def read(self, model: TextVAE, *, report: bool) -> tuple[TextSplit, TextSplit | None]:
        """Read the sentences to learn from, checked; for a report also held-out ones, else None."""
        if self.corpus is None and self.column is not None:
            raise ConfigError("--column belongs to --corpus FILE: write that too")
        splits = read_splits(model, self.corpus, self.column, "learn from")
        known = splits["train" if "train" in splits else "test"]
        held = splits.get("test", splits.get("valid"))
        if report and held in (known, None):  # no splits: hold out some sentences, which are then not learnt from
            learnt, others = steering.hold_out(known.texts())
            known, held = known.select(learnt), known.select(others)
        steering.check_attribute(self.label_column, self.list_labels(known), self.value)
        if not report:
            return known, None
        assert held is not None
        if (number := len(self.divide(held)[1])) < 2:
            raise ConfigError(
                f"--report: {number} held-out sentences have another value than {self.value!r} in column "
                f"{self.label_column!r}: expected 2 or more; write --corpus FILE with more sentences"
            )
        return known, held

    def list_labels(self, split: TextSplit) -> list[Any]:
        """List the label of each sentence."""
        if self.label_column not in split.columns:
            hint = "; or write --corpus FILE with labelled sentences" if self.corpus is None else ""
            raise ConfigError(
                f"--label-column {self.label_column}: the corpus has no such column; its columns are: "
                f"{list_names(split.columns)}{hint}"
            )
        return split.column(self.label_column)

    def divide(self, split: TextSplit) -> tuple[TextSplit, TextSplit]:
        """Divide into sentences with the attribute and with another value, at most 5,000 of each, evenly spread."""
        having, lacking = steering.split_by_attribute(self.list_labels(split), self.value)
        return split.select(having).at_most(CLASS_SIZE), split.select(lacking).at_most(CLASS_SIZE)
