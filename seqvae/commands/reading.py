"""Which sentences a command reads: to score, to fit a density to, to learn an attribute from, or to work on."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqvae import show
from seqvae.config import Config, loading
from seqvae.data.series.corpus import SeriesCorpus, SeriesSplit, load_series
from seqvae.data.text import splits
from seqvae.data.text.corpus import Corpus, Split, load
from seqvae.data.text.labels import listed, named
from seqvae.data.text.sources import Source as OpenCorpus
from seqvae.data.text.sources import located, open_source
from seqvae.data.text.splits import Texts
from seqvae.data.text.unknown import unmentioned
from seqvae.errors import ConfigError, CorpusError, SeqVAEError
from seqvae.latent import steering
from seqvae.latent.density import POINTS, Aggregate, Density, check_confidence
from seqvae.pretrained import Pretrained
from seqvae.series_vae import SeriesVAE
from seqvae.text_vae import ROWS, TextVAE
from seqvae.training.checkpoint import Checkpoint

CLASS = 5_000  # sentences with an attribute, and as many without it, that its direction is learnt from, at most


@dataclass(frozen=True)
class Held:
    """Which sentences to look at: those of `corpus` (None: that of the training) in its `split`, at most `limit`."""

    corpus: str | None
    split: str
    column: str | None
    limit: int | None

    def read(self, model: TextVAE) -> tuple[Split, Split | None, list[str]]:
        """The sentences, divided as they were for training if they are those of the training; then also its own.

        The third are facts to be told of what is scored once it is known that it will be, each a short sentence.
        """
        return self._read(model)

    def read_series(self, model: SeriesVAE) -> tuple[SeriesSplit, SeriesSplit | None, list[str]]:
        """The same for series."""
        return self._read(model)

    def _read(self, model: TextVAE | SeriesVAE) -> tuple[Any, Any, list[str]]:
        config, facts = model.config, model.checkpoint.facts
        if self.limit is not None and self.limit < 2:
            raise ConfigError(f"--limit {self.limit}: expected 2 or more sentences")
        if self.corpus is None and nameless(model):
            raise ConfigError("the model was trained on standard input or a list in memory: name the corpus to score")
        try:
            read, own = self.load(model, known=True) if isinstance(model, TextVAE) else self.load_series(model)
        except CorpusError as error:
            if self.corpus is None:
                raise CorpusError(f"{error}; if the corpus has moved, name the place where it is now") from None
            raise
        if self.split not in read.splits:
            raise CorpusError(f"{read.name} has no {self.split} sentences; it has: {', '.join(read.splits)}")
        split = read.splits[self.split].at_most(self.limit)
        if isinstance(model, SeriesVAE) and isinstance(split, SeriesSplit):
            model.expect_channels(split.channels)
        if not own:
            return split, None, overlap(model, split)
        notes = []
        if not self._named(config):
            notes.append(f"{self.corpus} is the corpus of the training: its {self.split} sentences are scored")
        elif facts.get("fingerprint", "") not in ("", read.fingerprint):
            notes.append(f"{config.corpus} has changed since the training: what is scored may have been trained on")
        return split, read.train if self.split != "train" else None, notes

    def load(self, model: TextVAE, *, known: bool = False) -> tuple[Corpus, bool]:
        """The corpus, and whether it is that of the training: by its name, or if `known` by its content."""
        config, own = model.config, self._named(model.config)
        opened = self._open(config)
        with suppress(CorpusError):  # one that cannot be divided as that of the training is another
            own = own or (known and content_of(config, opened) == model.checkpoint.facts.get("content"))
        read = load(
            opened,
            label_column=config.data.label_column,
            labels=model.labels or None,
            tokenizer=model.tokenizer,
            max_length=config.data.max_length,
            seed=config.data.split_seed,
            whole=not own,
        )
        return read, own

    def _named(self, config: Config) -> bool:
        """Whether the corpus is that of the training by its name."""
        return self.corpus is None or (self.corpus != "-" and located(self.corpus) == config.corpus)

    def _open(self, config: Config) -> OpenCorpus:
        """Open the corpus, with the column of the training where it has one of that name and none was named."""
        source, column = self.corpus or config.corpus, config.data.column
        if self._named(config) or self.column is not None or column is None or source == "-":
            return open_source(source, self.column or column)
        try:
            return open_source(source, column)
        except CorpusError:
            return open_source(source)

    def load_series(self, model: SeriesVAE) -> tuple[SeriesCorpus, bool]:
        """The same for series."""
        config, own = model.config, self._named(model.config)
        column = self.column or (config.data.column if own else None)
        options: dict[str, Any] = {"max_length": config.data.max_length, "seed": config.data.split_seed}
        source = self.corpus or config.corpus
        with suppress(CorpusError):  # one that cannot be divided as that of the training is another
            read = load_series(source, column=column, **options)
            if own or read.content == model.checkpoint.facts.get("content"):
                return read, True
        return load_series(source, column=column, whole=not own, **options), own


@dataclass(frozen=True)
class Source:
    """What z is drawn from: `prior`, or `aggregate` with options of its own, None for those that are not given."""

    name: str
    density: Density | None
    components: int | None
    min_confidence: float | None
    corpus: str | None
    column: str | None

    def check(self) -> None:
        """Refuse before any work what cannot be used."""
        given = [name for name, value in vars(self).items() if name != "name" and value is not None]
        if self.name == "prior" and given:
            raise ConfigError(f"--{given[0].replace('_', '-')} belongs to --from aggregate: write that too")
        if self.components is not None and self.density not in (None, "mixture"):
            raise ConfigError(f"--components belongs to --density mixture: leave it out for a {self.density}")
        check_confidence(self.min_confidence or 0.0)

    def fit(self, model: TextVAE) -> Aggregate:
        """The density of some training sentences of the model, or of `corpus`."""
        if not model.model.latent:
            raise ConfigError("--from aggregate needs a latent space: a model of kind lm has none")
        try:
            split = self._split(model)
        except CorpusError as error:
            if self.corpus is not None:
                raise
            raise ConfigError(f"{error}; or write --corpus FILE to fit to other sentences") from None
        options: dict[str, Any] = {"density": self.density or "mixture", "components": self.components}
        with unmentioned():
            return model.aggregate(split.texts(), labels=model.labels_of(split), **options)

    def _split(self, model: TextVAE) -> Split:
        if self.corpus is None and nameless(model):
            raise ConfigError("the model was trained on standard input or a list in memory: write --corpus FILE")
        splits = Held(self.corpus, "train", self.column, POINTS).load(model)[0].splits
        return splits["train" if "train" in splits else "test"].at_most(POINTS)


@dataclass(frozen=True)
class Labels:
    """Sentences with labels: those of `column` in the corpus of the training, or in `corpus`."""

    column: str
    attribute: str
    corpus: str | None
    text_column: str | None

    def read(self, model: TextVAE, *, report: bool) -> tuple[Split, Split | None]:
        """The sentences to learn from, checked; for a report also held-out ones, else None."""
        if self.corpus is None and self.text_column is not None:
            raise ConfigError("--text-column belongs to --corpus FILE: write that too")
        if self.corpus is None and nameless(model):
            raise ConfigError("the model was trained on standard input or a list in memory: write --corpus FILE")
        try:
            splits = Held(self.corpus, "train", self.text_column, None).load(model)[0].splits
        except CorpusError as error:
            if self.corpus is not None:
                raise CorpusError(str(error).replace("needs --column", "needs --text-column")) from None
            raise ConfigError(f"{error}; or write --corpus FILE to learn from other sentences") from None
        known = splits["train" if "train" in splits else "test"]
        held = splits.get("test", splits.get("valid"))
        if report and held in (known, None):  # no parts: held out are some that are then not learnt from
            learnt, others = steering.apart(known.texts())
            known, held = known.select(learnt), known.select(others)
        steering.check(self.column, self.values(known), self.attribute)
        if not report:
            return known, None
        assert held is not None
        if (number := len(self.divide(held)[1])) < 2:
            raise ConfigError(
                f"--report: {number} held-out sentences have another value than {self.attribute!r} in column "
                f"{self.column!r}: expected 2 or more; write --corpus FILE with more sentences"
            )
        return known, held

    def values(self, split: Split) -> list[Any]:
        """The labels."""
        if self.column not in split.columns:
            hint = "; or write --corpus FILE with labelled sentences" if self.corpus is None else ""
            raise ConfigError(
                f"--column {self.column}: the corpus has no such column; its columns are: "
                f"{', '.join(split.columns)}{hint}"
            )
        return split.column(self.column)

    def divide(self, split: Split) -> tuple[Split, Split]:
        """The sentences with the attribute and those with another value, of each at most so many, evenly spread."""
        having, lacking = steering.divide(self.values(split), self.attribute)
        return split.select(having).at_most(CLASS), split.select(lacking).at_most(CLASS)


def corpus_of(config: Config) -> Corpus | SeriesCorpus:
    """The corpus of a run: of series where the run observes frames, else of sentences."""
    return load(config.corpus, **loading(config)) if is_of_text(config) else series_of(config)


def series_of(config: Config) -> SeriesCorpus:
    """The corpus of a run that observes frames."""
    data = config.data
    return load_series(config.corpus, column=data.column, max_length=data.max_length, seed=data.split_seed)


def is_of_text(config: Config) -> bool:
    """Whether a run observes tokens, not frames."""
    return config.model.observation["name"] != "frames"


def texts_of(config: Config, source: Any = None) -> Texts:
    """The sentences of a run, divided as for its training; those of `source`, divided likewise, if it is given.

    Raises:
        CorpusError: when they cannot be read, or not be divided.
    """
    data = config.data
    lowercase = data.tokenizer == "word" if data.lowercase is None else data.lowercase
    return splits.read(
        config.corpus if source is None else source,
        column=data.column,
        label_column=data.label_column,
        seed=data.split_seed,
        lowercase=lowercase,
    )


def content_of(config: Config, source: Any = None) -> str:
    """The content of a corpus divided as for a run: that of the run if and only if its sentences are the same."""
    return splits.content(texts_of(config, source).splits) if is_of_text(config) else series_of(config).content


def overlap(model: TextVAE | SeriesVAE, split: Split | SeriesSplit) -> list[str]:
    """How many of the sentences of another corpus were trained on, as a note; none where it is none."""
    config, facts, keys = model.config, model.checkpoint.facts, None
    if not nameless(model):
        with suppress(SeqVAEError):
            if isinstance(model, TextVAE):
                texts = texts_of(config)
                if splits.content(texts.splits) == facts.get("content"):
                    keys = texts.splits["train"].keys[texts.splits["train"].numbers]
            elif (series := series_of(config)).content == facts.get("content") and series.train is not None:
                keys = series.train.keys
    if keys is None:
        return [
            "whether some of what is scored was trained on is not known: the training corpus cannot be read any more"
        ]
    seen, unit = int(np.isin(split.keys, keys).sum()), "sentences" if isinstance(split, Split) else "series"
    told = f"{seen:,} of the {len(split):,} {unit} that are scored were trained on: new ones would score worse"
    return [told] if seen else []


def same_content(folder: Path, config: Config) -> bool:
    """Whether the model in `folder` was trained on the same sentences or series, as `config` reads and divides them."""
    try:
        known = Checkpoint.load(folder).facts.get("content")
        return known is not None and known == content_of(config)
    except SeqVAEError:
        return False


def training_texts(model: TextVAE) -> tuple[Iterable[str] | None, str]:
    """The training sentences as the model would write them; or None, and why they cannot be known."""
    if nameless(model):
        return None, "the model was trained on standard input or a list in memory"
    try:
        read = Held(None, "train", None, None).load(model)[0]
    except SeqVAEError as error:
        return None, str(error)
    train = read.train
    if train is None or model.checkpoint.facts.get("fingerprint", "") not in ("", read.fingerprint):
        return None, f"{model.config.corpus} has changed since the training"
    parts = (range(i, min(i + ROWS, len(train))) for i in range(0, len(train), ROWS))
    return (text for part in parts for text in model.tokenizer.decode_batch(train.sequences(part))), ""


@dataclass(frozen=True)
class Lines:
    """Sentences to work on, with a label for all or a column of labels where the model is conditioned on them."""

    source: str
    column: str | None = None
    label: str | None = None
    label_column: str | None = None

    def read(self, model: TextVAE) -> tuple[list[str], str | list[str] | None]:
        """The sentences and their labels, which the model knows."""
        if self.label is not None and self.label_column is not None:
            raise ConfigError("--label and --label-column were both given: leave one of them out")
        if model.labels and self.label is None and self.label_column is None:
            raise ConfigError(
                f"the model needs a label of each sentence: write --label with one of {listed(model.labels)}; "
                "or --label-column with the column of a table that holds them"
            )
        texts, labels = lines_of(self.source, self.column, self.label_column)
        given = self.label if labels is None else labels
        model.numbers(given, len(texts))
        return texts, given


def lines_of(
    source: str, column: str | None = None, label_column: str | None = None
) -> tuple[list[str], list[str] | None]:
    """The sentences of a file, or of standard input, in their order and with their duplicates; and their labels."""
    opened = open_source(source, column)
    if len(opened.datasets) > 1:
        raise CorpusError(f"{source} has several splits: name one file")
    ((split, dataset),) = opened.datasets.items()
    lines = dataset[opened.columns[split]]
    texts = [text for text in lines if text and text.strip()]
    if not texts:
        raise CorpusError(f"{source} holds only blank lines")
    if len(texts) < len(lines):
        show.remark(
            f"{len(lines) - len(texts):,} blank lines skipped: results follow the other {len(texts):,} in order"
        )
    if label_column is None:
        return texts, None
    if label_column not in dataset.column_names:
        known = ", ".join(dataset.column_names)
        raise ConfigError(f"--label-column {label_column}: {source} has no such column; its columns are: {known}")
    pairs = zip(lines, dataset[label_column], strict=True)
    return texts, [named(value, label_column) for text, value in pairs if text and text.strip()]


def nameless(model: Pretrained) -> bool:
    """Whether the sentences that the model was trained on cannot be read again."""
    return model.config.corpus == "-" or model.checkpoint.facts.get("corpus") in ("sentences", "series")
