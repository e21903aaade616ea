"""TextVAE: a trained model with its tokenizer; text goes in, text comes out."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.config import Config, require_tokens
from seqvae.data import containers
from seqvae.data.batch import END, Batch
from seqvae.data.batching import divide_by_length
from seqvae.data.text import splits
from seqvae.data.text.corpus import TextCorpus, TextSplit, load
from seqvae.data.text.given import settle_words
from seqvae.data.text.joining import LABEL, join_splits
from seqvae.data.text.labels import Label, Labels, number_labels
from seqvae.data.text.sources import Source, locate, open_source
from seqvae.data.text.splits import Texts
from seqvae.data.text.unknown import describe_unknown, warn_unknown
from seqvae.data.text.weights import choose_weights
from seqvae.errors import CheckpointError, ConfigError, CorpusError, check_text, check_whole, expand, read_texts
from seqvae.evaluation.evaluate import score_split
from seqvae.evaluation.likelihood import measure
from seqvae.evaluation.scores import Scores
from seqvae.latent.density import AggregateDensity, Density, fit_aggregate
from seqvae.latent.prior_temperature import has_temperature
from seqvae.latent.ranking import check_sampling, choose_likeliest, repeat_labels
from seqvae.model.decoding import decode
from seqvae.model.modes import Points, read_points
from seqvae.pretrained import open_init, read_init
from seqvae.rng import Stream, check_seed, shift_seed
from seqvae.training.build import resolve_all
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.devices import Device, choose_device
from seqvae.training.inherit import inherit
from seqvae.training.init import Init, choose_reading
from seqvae.training.runs import check_output
from seqvae.training.session import Session, run_session
from seqvae.writing import RULES, Writer, read_rules

ROWS = 256  # sentences encoded at a time
TYPICAL_LENGTH, CANDIDATES = 8, 200  # tokens of an example; sentences to choose it from


@dataclass(frozen=True)
class Sentence:
    """A generated sentence.

    Attributes:
        text: the sentence.
        log_prob: log p(x|z), nats, under the model itself, whatever temperature or filter chose the words.
        tokens: number of generated tokens that it sums over, the EOS included unless the sentence was truncated.
    """

    text: str
    log_prob: float
    tokens: int


class TextVAE(Writer):
    """A sentence VAE.

    `SeriesVAE` has the same methods, so that commands and reports need not know which of the two they have.

    Attributes:
        unit: one item of a corpus, as messages name it; `units` for several.
        tag: what such a model does, as the Hugging Face hub names it.
        labels: those that it is conditioned on, by name; empty for a model without a label column.

    >>> model = TextVAE.fit(["a cat sat .", "a dog sat .", "a cat ran .", "a dog ran ."] * 9, latent=2, max_epochs=1)
    >>> len(model.sample(3, seed=1)), tuple(model.encode(["a cat sat ."]).mean.shape)
    (3, (1, 2))
    """

    unit, units, tag = "sentence", "sentences", "text-generation"
    sampling_options = ("prior_temperature", "temperature", "top_k", "top_p", "min_p", "candidates")

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.tokenizer is None:
            raise CheckpointError("this is a model of series: load it with SeriesVAE; it cannot do what needs words")
        super().__init__(checkpoint)
        self.tokenizer = checkpoint.tokenizer
        self.labels = tuple(checkpoint.labels)

    # -- training -----------------------------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        sentences: Any,
        *,
        valid: Any = None,
        test: Any = None,
        labels: Any = None,
        weights: Any = None,
        output: str | os.PathLike | None = None,
        progress: bool | None = None,
        device: Device = None,
        **options: Any,
    ) -> "TextVAE":
        """Train a model and return it; its `history` has the curves of the training.

        Args:
            sentences: anything that `seqvae train` takes: a file, a folder, `chitchat`, `hub:NAME`; or sentences in
                memory: a list, a generator, an array or a series of them, a table with a column of them (a data frame
                of pandas or polars, a table of Arrow, a data set of `datasets`, a dict of columns, a list of dicts), or
                a dict of the splits train, valid and test, each one of these. `column` and `label_column` as for files.
            valid: validation sentences, likewise; by default some are drawn from `sentences`, unless these are splits.
            test: likewise.
            labels: the label of each sentence, to condition the model on: a list, or a dict of lists by split where
                `valid` or `test` is given.
            weights: how much each training sentence counts: a list of numbers, or the name of a column. Its loss is
                multiplied by its weight divided by the mean weight: 2 counts as much as the sentence given twice, 0
                leaves it out. Scores of validation and test sentences are unweighted.
            output: a folder for the model, which must not hold one yet; None keeps it in memory.
            progress: show a progress bar; None does in a terminal and in a notebook.
            device: to train on, and where the model is afterwards: `cpu`, `cuda`, `cuda:1` and so on. None trains on a
                GPU if there is one, and the model is on the CPU afterwards.
            options: those of `seqvae.config`, by name: `kind="vae"`, `latent=32`, `seed=0`, `max_minutes=5`,
                `tokenizer="bpe"` (or a tokenizer, its path or its name), `encoder={"layers": 2}`, `weight={"name":
                "cyclical"}` ... A part is a table, a name (`prior="mixture"`), or a class or an instance of your own
                (`prior=MyPrior(latent=32)`; see CONTRIBUTING.md). `init="chitchat"`, or a loaded model, begins with
                that model: fine-tuning. `config="bnvae2020"` takes a recipe, of `seqvae recipes` or a file;
                the others win.

        Raises:
            ConfigError: for an unknown option or a value that it cannot have, or a device that is not there.
            CorpusError: if the sentences cannot be read, or are too few.
        """
        session = cls.training(
            sentences,
            valid=valid,
            test=test,
            labels=labels,
            weights=weights,
            output=output,
            progress=progress,
            device=device,
            **options,
        )
        return run_session(session)

    @classmethod
    def training(
        cls,
        sentences: Any,
        *,
        valid: Any = None,
        test: Any = None,
        labels: Any = None,
        weights: Any = None,
        output: str | os.PathLike | None = None,
        progress: bool | None = False,
        device: Device = None,
        **options: Any,
    ) -> "Session[TextVAE]":
        """Prepare a training, whose steps are made by a loop over it: arguments and errors as of `fit`.

        `for step in (session := TextVAE.training(texts)): print(step.step)`; then `session.model` is the model.
        """
        device = choose_device(device)
        if labels is not None:
            options.setdefault("label_column", LABEL)
        weights = choose_weights(weights, options)
        given, init = read_init(options)
        config = cls.resolve(given, init)
        beside = {"valid": valid, "test": test, "labels": labels, "weights": weights}
        if any(given is not None for given in beside.values()):
            sentences = join_splits(sentences, **beside, column=config.data.column)
        folder = None if output is None else check_output(expand(output))
        corpus = load(sentences, **choose_reading(config, init))
        warn_unknown(corpus.unknown_words if init is None else init.advise(config, corpus), stacklevel=3)
        return cls._prepare(config, corpus, sentences, folder, progress, init, device)

    @classmethod
    def resolve(cls, config: Config, init: Init | None = None) -> Config:
        """Return the configuration of a run on text with every default filled in.

        Args:
            config: what the user gave.
            init: the model that the run begins with; None loads the one that `config` names, if any.

        Raises:
            ConfigError: for options that a model of text cannot have, or that cannot be combined.
        """
        init = init or open_init(config)
        config = resolve_all(require_tokens(config if init is None else inherit(config, init)))
        if init is not None and not config.training.own_vocabulary:
            return config  # its tokenizer lies in the folder of the model
        return dataclasses.replace(config, data=settle_words(config.data))

    @classmethod
    def read_corpus(cls, config: Config, init: Init | None = None) -> TextCorpus:
        """Read and tokenize the corpus of a run: it trains the tokenizer, unless `init` has one."""
        return load(config.corpus, **choose_reading(config, init))

    @classmethod
    def hash_corpus(cls, config: Config) -> str:
        """Return a hash of the sentences of a run: equal for equal sentences divided alike, whatever the tokenizer.

        Raises:
            CorpusError: when they cannot be read, or not be divided.
        """
        return splits.hash_texts(_read_texts(config, config.corpus).splits)

    # -- sentences -> z -----------------------------------------------------------------------------------------------

    def encode(self, sentences: Iterable[str], *, labels: Labels = None) -> Distribution:
        """Return the posterior q(z|x): batch (B,), event (D,); `.mode` is the point to decode, `.stddev` its spread.

        Args:
            sentences: B sentences, in any container of which `fit` takes one split.
            labels: for a model conditioned on labels: that of each sentence, or one for all; then q(z|x, y).

        Raises:
            ConfigError: for a language model (kind lm), which has no z; for labels that the model needs and are not
                given, or that it does not know.
        """
        return self._posterior(self._by_length(sentences, labels))

    def aggregate(
        self,
        sentences: Iterable[str],
        *,
        labels: Labels = None,
        density: Density = "mixture",
        components: int | None = None,
        seed: int = 0,
    ) -> AggregateDensity:
        """Fit a density to the aggregate posterior of `sentences`, to sample z from in place of the prior.

        `model.decode(model.aggregate(sentences).sample(5, seed=1).z)` writes 5 sentences. Args and errors as
        `seqvae.latent.density.fit_aggregate`.
        """
        batches = (batch for _, batch in self._by_length(sentences, labels))
        return fit_aggregate(self.model, batches, density=density, components=components, seed=seed)

    def score(self, sentences: Iterable[str], *, labels: Labels = None, samples: int = 100, seed: int = 0) -> Tensor:
        """Estimate log p(x) of each sentence: (B,) float64 nats, importance weighted over `samples` samples of q(z|x).

        With labels, as for `encode`, log p(x|y).
        """
        check_seed(seed)
        check_whole(1, samples=samples)
        return -measure(self.model, self._by_length(sentences, labels), samples=samples, seed=seed).nll

    # -- z -> sentences -----------------------------------------------------------------------------------------------

    def decode(
        self,
        z: Points,
        *,
        labels: Labels = None,
        seed: int | None = None,
        temperature: float = 0.0,
        **options: Any,
    ) -> list[str]:
        """Decode points into sentences, greedily unless a temperature is given.

        Args:
            z: (B, D), a tensor, an array or a list of rows.
            labels: for a model conditioned on labels: that of each sentence, or one for all. It need not be the one
                that z was encoded with: z holds the rest of the sentence.
            seed: of the words.
            temperature: as in `sample`.
            options: as in `sample`.
        """
        return [s.text for s in self.generate(z, labels=labels, seed=seed, temperature=temperature, **options)]

    def recommend_sampling(self) -> dict[str, float]:
        """Return options of `sample` that read well: nearer to the training's sentences, and the surest of several.

        They were chosen on `chitchat` and are compared in docs/log.md. A language model, which has no z, samples likely
        words; temperature 1 and one candidate is the model itself.
        """
        if not self.model.has_latent:
            return {"temperature": 0.5}
        narrowed = {"prior_temperature": 0.6} if has_temperature(self.model.prior()) else {}
        return narrowed | {"temperature": 0.3, "candidates": 8}

    def sample(
        self,
        n: int = 1,
        *,
        label: Labels = None,
        seed: int | None = None,
        temperature: float | None = None,
        **options: Any,
    ) -> list[str]:
        """Generate `n` sentences from samples of the prior (for another density, see `aggregate`).

        Args:
            n: number of sentences.
            label: for a model conditioned on labels: the one that the sentences shall have (or a list, one for each).
                None samples labels as often as the training sentences have them.
            seed: of z and of the words; None takes new random numbers each time.
            temperature: 0 takes the likeliest word each time, 1 samples from the model, less than 1 favours likely
                words. Where neither it nor another option says how to sample, `generation_config` does; else 1.
            options: `top_k`, `top_p`, `min_p`, `beam`, `length_penalty`, `max_length`, `allow_unknown`
                (`seqvae.model.decoding.decode`); `banned` and, with a beam, `required`: lists of words; `no_repeat`,
                the length of n-grams that must not come twice;
                `prior_temperature`, of z (`seqvae.latent.prior_temperature`); `candidates`, the number of sentences
                that are generated for each, of which the one that the decoder is surest of is kept
                (`seqvae.latent.ranking`).
        """
        check_whole(1, n=n)
        options = self.choose_sampling({"temperature": temperature, **options})
        candidates, prior_temperature = options.pop("candidates", 1), options.pop("prior_temperature", 1.0)
        check_sampling(candidates=candidates, prior_temperature=prior_temperature, n_best=options.get("n_best", 1))
        names = self.sample_labels(n, seed=seed) if label is None else self._name_labels(label, n)
        labels = repeat_labels(names, candidates)
        z = self.sample_prior(n * candidates, seed=seed, temperature=prior_temperature)
        found = self.generate(z, labels=labels, seed=seed, **options)
        return [found[row].text for row in choose_likeliest(found, candidates, labels)]

    def reconstruct(self, sentences: Iterable[str], *, labels: Labels = None, **options: Any) -> list[str]:
        """Decode each sentence from its posterior mean, greedily; labels as in `encode`, options as in `decode`."""
        return self.decode(self.encode(sentences, labels=labels).mode, labels=labels, **options)

    def interpolate(
        self,
        start: str,
        end: str,
        *,
        label: Label | None = None,
        steps: int = 7,
        path: str | None = None,
        **options: Any,
    ) -> list[str]:
        """Decode `steps` points between two sentences, from the reconstruction of `start` to that of `end`.

        Args:
            start: a sentence.
            end: another.
            label: of both sentences and of all between them, for a model conditioned on labels.
            steps: 2 or more, the two ends included.
            path: `linear`, or `slerp` along the arc between the two directions; None takes `default_path`.
            options: as in `decode`.
        """
        check_text("start", start)
        check_text("end", end)
        z = self.encode([start, end], labels=label).mode
        return self.decode(
            self.interpolate_points(z[0], z[1], steps=steps, path=path or self.default_path), labels=label, **options
        )

    def generate(
        self,
        z: Points,
        *,
        labels: Labels = None,
        seed: int | None = None,
        temperature: float = 0.0,
        beam: int = 0,
        **options: Any,
    ) -> list[Sentence]:
        """Decode points as `decode` does, into sentences with their log probabilities; n_best of each, if it is given.

        `model.generate(z, beam=8, n_best=4)` returns four of each point, one after the other, the best first.
        """
        z = read_points(z, self.model.latent, next(self.model.parameters()))
        options.setdefault("max_length", self.config.data.max_length)
        if words := {name: options.pop(name) for name in RULES if name in options}:
            options["rules"] = read_rules(self.tokenizer, **words)
        with torch.no_grad():
            z = self.model.append_condition(z, self.number_labels(labels, len(z)))
        stream = Stream(seed)
        if temperature and not beam:
            options["generator"] = stream.generator()
        if beam and temperature in (0.0, 1.0):  # both are what a beam search is: nothing is sampled
            temperature = 1.0
        found = decode(self.model, z, temperature=temperature, beam=beam, **options)
        texts = self.tokenizer.decode_batch(found.tokens)
        return [Sentence(*row) for row in zip(texts, found.log_prob.tolist(), map(len, found.tokens), strict=True)]

    # -- corpora ------------------------------------------------------------------------------------------------------

    def load_corpus(self, source: Any = None, *, column: str | None = None, whole: bool | None = None) -> TextCorpus:
        """Read a corpus in this model's tokens and labels.

        Args:
            source: anything that `fit` takes; None is the corpus of the training.
            column: the column of a table that holds the sentences; by default the one of the training if there is one
                of that name.
            whole: take all of it as `test`, in its order, unless it comes in splits; False divides it as for the
                training. None divides it if it is the corpus of the training, by name or by content.

        Raises:
            CorpusError: when it cannot be read, or not be divided.
        """
        opened = self._open(source, column)
        if whole is None:
            whole = not (self.is_training_corpus(source) or self._has_training_content(opened))
        return load(
            opened,
            label_column=self.config.data.label_column,
            labels=self.labels or None,
            tokenizer=self.tokenizer,
            max_length=self.config.data.max_length,
            seed=self.config.data.split_seed,
            whole=whole,
        )

    def is_training_corpus(self, source: Any) -> bool:
        """Tell whether a corpus is that of the training, by its name; None stands for it."""
        named_alike = isinstance(source, str | os.PathLike) and source != "-" and locate(source) == self.config.corpus
        return source is None or named_alike

    def read_training_keys(self) -> np.ndarray | None:
        """Return keys (N,) of the training sentences, equal for equal sentences; None if the corpus has changed."""
        texts = _read_texts(self.config, self.config.corpus)
        if splits.hash_texts(texts.splits) != self.checkpoint.facts.get("content"):
            return None
        return texts.splits["train"].keys[texts.splits["train"].numbers]

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(
        self, split: TextSplit, *, samples: int = 100, seed: int = 0, seeds: int = 1, refined: int = 100
    ) -> Scores:
        """Score a split that was encoded with this model's tokenizer (see `score_split`)."""
        if not isinstance(split, TextSplit):
            raise ConfigError(
                f"a {type(split).__name__} was given where a split is expected: write "
                "model.load_corpus(sentences, whole=True).test"
            )
        check_seed(seed)
        check_whole(0, samples=samples, seeds=seeds, refined=refined)
        options: dict[str, Any] = {"samples": samples, "seed": seed, "seeds": seeds, "refined": refined}
        return score_split(self.model, split, target_kl=self.config.kl_target, **options)[0]

    def choose_examples(self, split: TextSplit, count: int = 3) -> tuple[list[str], list[str] | None]:
        """Choose sentences of like, moderate length, without `<unk>` where there are such; always the same ones.

        Returns:
            the sentences, and their labels if they have any.
        """
        lengths = split.lengths
        usual = min(TYPICAL_LENGTH, int(np.median(lengths)))
        typical = np.argsort(np.abs(lengths - usual), kind="stable")[:CANDIDATES]
        texts = [self.tokenizer.decode(ids) for ids in split.sequences(typical)]
        known = [place for place, text in enumerate(texts) if "<unk>" not in text] or list(range(len(texts)))
        chosen = known[:: max(1, len(known) // count)][:count]
        return [texts[place] for place in chosen], self.read_labels(split.select(typical[chosen]))

    def preview_samples(self) -> list[str]:
        """Generate five sentences for the model card."""
        return self.sample(5, seed=0)

    # -- tokens and labels --------------------------------------------------------------------------------------------

    def tokenize(self, sentences: Iterable[str]) -> list[list[int]]:
        """Return the ids of each sentence: its tokens, then EOS unless it is truncated.

        An `UnknownWordsWarning` names words that the vocabulary lacks; so wherever sentences are given to the model.
        """
        texts = read_texts(containers.read_sentences(sentences, self.config.data.column))
        longest = self.config.data.max_length
        found = [[*ids, END][:longest] for ids in self.tokenizer.encode_batch(texts)]
        warn_unknown(describe_unknown(self.tokenizer, texts, found), stacklevel=4)
        return found

    def number_labels(self, labels: Labels, count: int) -> Tensor | None:
        """Return the numbers (count,) int64 of the labels of `count` sentences; None for a model without labels.

        Raises:
            ConfigError: for labels that the model does not know, or that it needs and are not given.
        """
        found = number_labels(labels, self.labels, self.config.data.label_column, count)
        return None if found is None else torch.tensor(found, dtype=torch.long)

    def sample_labels(self, n: int, *, seed: int | None = None) -> list[str] | None:
        """Sample `n` labels as often as the training sentences have them; None for a model without labels."""
        if not self.labels:
            return None
        check_whole(1, n=n)
        counts = torch.tensor(list(self.checkpoint.labels.values()), dtype=torch.float64)
        generator = Stream(shift_seed(seed, 2)).generator()
        return [self.labels[i] for i in torch.multinomial(counts, n, replacement=True, generator=generator).tolist()]

    def read_labels(self, split: TextSplit) -> list[str] | None:
        """Return the label of each sentence of a split; None for a model without labels."""
        return None if split.labels is None else [self.labels[number] for number in split.labels]

    def _name_labels(self, labels: Labels, count: int) -> list[str] | None:
        """Return the names of the labels of `count` sentences; arguments and errors as in `number_labels`."""
        numbers = self.number_labels(labels, count)
        return None if numbers is None else [self.labels[number] for number in numbers.tolist()]

    def _by_length(self, sentences: Iterable[str], labels: Labels) -> Iterable[tuple[Sequence[int], Batch]]:
        """Make batches of sentences of like length, with the places of the sentences."""
        sequences = self.tokenize(sentences)
        if not sequences:
            raise ConfigError("no sentence was given")
        numbers = self.number_labels(labels, len(sequences))
        parts = divide_by_length(np.array([len(ids) for ids in sequences]), ROWS)
        return ((part, _make_batch(sequences, numbers, part)) for part in map(np.ndarray.tolist, parts))

    def _has_training_content(self, opened: Source) -> bool:
        try:
            return splits.hash_texts(_read_texts(self.config, opened).splits) == self.checkpoint.facts.get("content")
        except CorpusError:  # what cannot be divided as the corpus of the training is another one
            return False

    def _open(self, source: Any, column: str | None) -> Source:
        """Open a corpus, with the column of the training where it has one of that name and none was named."""
        usual = self.config.data.column
        if self.is_training_corpus(source) or column is not None or usual is None or source == "-":
            return open_source(self.config.corpus if source is None else source, column or usual)
        try:
            return open_source(source, usual)
        except CorpusError:
            return open_source(source)


def _make_batch(sequences: list[list[int]], numbers: Tensor | None, rows: Sequence[int]) -> Batch:
    batch = Batch.of([sequences[row] for row in rows])
    return batch if numbers is None else dataclasses.replace(batch, labels=numbers[list(rows)])


def _read_texts(config: Config, source: Any) -> Texts:
    """Read sentences, divided as for a run."""
    data = config.data
    how: dict[str, Any] = {"lowercase": data.folds_case, "normalization": data.normalization}
    return splits.read_splits(source, column=data.column, label_column=data.label_column, seed=data.split_seed, **how)
