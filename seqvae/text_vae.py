"""TextVAE: a trained model with its tokenizer; text goes in, text comes out."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.config import for_text, loading
from seqvae.data.batch import END, Batch
from seqvae.data.text import containers
from seqvae.data.text.corpus import Split, load
from seqvae.data.text.labels import Label, Names, numbered
from seqvae.data.text.sources import located
from seqvae.data.text.unknown import typed, warn
from seqvae.errors import CheckpointError, ConfigError, check_text, check_whole, expand, read_texts
from seqvae.evaluation.evaluate import score_split
from seqvae.evaluation.likelihood import measure
from seqvae.evaluation.scores import Scores
from seqvae.latent.density import Aggregate, Density, fit_aggregate
from seqvae.model.decoding import decode
from seqvae.model.modes import Points, read_points
from seqvae.pretrained import Pretrained, config_of, fitted
from seqvae.rng import check_seed, seeded, shift_seed
from seqvae.training.build import resolve_all
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.runs import fresh

ROWS = 256  # sentences encoded at a time


@dataclass(frozen=True)
class Sentence:
    """A generated sentence.

    Attributes:
        text: what it says.
        log_prob: log p(x|z), nats: the model's own, whatever temperature or filter chose the words.
        tokens: how many targets that sums over, the end included if it was said.
    """

    text: str
    log_prob: float
    tokens: int


class TextVAE(Pretrained):
    """A sentence VAE.

    Attributes:
        labels: those that it is conditioned on, by name; empty for a model without a label column.

    >>> model = TextVAE.fit(["a cat sat .", "a dog sat .", "a cat ran .", "a dog ran ."] * 9, latent=2, max_epochs=1)
    >>> len(model.sample(3, seed=1)), tuple(model.encode(["a cat sat ."]).mean.shape)
    (3, (1, 2))
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.tokenizer is None:
            raise CheckpointError(
                "this is a model of series: load it with SeriesVAE; what is made of words cannot be done with it"
            )
        super().__init__(checkpoint)
        self.tokenizer = checkpoint.tokenizer
        self.labels = tuple(checkpoint.labels)

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def fit(cls, sentences: Any, *, output: str | os.PathLike | None = None, **options: Any) -> "TextVAE":
        """Train a model.

        Args:
            sentences: anything that `seqvae train` takes: a file, a folder, `sotu`, `hub:NAME`; or sentences in memory:
                a list, a generator, an array or a series of them, a table with a column of them (a data frame of
                pandas or polars, a table of Arrow, a data set of `datasets`, a dict of columns, a list of dicts), or a
                dict of the splits train, valid and test, each one of these. `column` and `label_column` as for files.
            output: a folder for the model, which must not hold one yet; None keeps it in memory.
            options: those of `seqvae.config`, by name: `kind="vae"`, `latent=32`, `seed=0`, `max_minutes=5`,
                `tokenizer="bpe"`, `encoder={"layers": 2}`, `weight={"name": "cyclical"}` ...

        Raises:
            ConfigError: for an unknown option or a value that it cannot have.
            CorpusError: if the sentences cannot be read, or are too few.
        """
        config = resolve_all(for_text(config_of(options)))
        folder = None if output is None else fresh(expand(output))
        corpus = load(sentences, **loading(config))
        warn(corpus.unknown_words)
        place = located(sentences) if isinstance(sentences, str | os.PathLike) else corpus.name
        config = dataclasses.replace(config, corpus=place)
        model = cls(fitted(config, corpus, folder))
        if folder is not None:
            model.write_card(folder)
        return model

    def shown_samples(self) -> list[str]:
        """Five sentences."""
        return [sentence.text for sentence in self.samples(5, seed=0)]

    # -- sentences -> z -----------------------------------------------------------------------------------------------

    def encode(self, sentences: Iterable[str], *, labels: Names = None) -> Distribution:
        """q(z|x): batch (B,), event (D,); `.mode` is the point to decode, `.stddev` how sure it is.

        Args:
            sentences: B of them, in any container of which `fit` takes one split.
            labels: where the model is conditioned on labels: that of each sentence, or one for all; then q(z|x, y).

        Raises:
            ConfigError: for a language model (kind lm), which has no z; for labels that the model needs and are not
                given, or that it does not know.
        """
        return self._posterior(self._by_length(sentences, labels))

    def aggregate(
        self,
        sentences: Iterable[str],
        *,
        labels: Names = None,
        density: Density = "mixture",
        components: int | None = None,
        seed: int = 0,
    ) -> Aggregate:
        """A density of z fitted to q(z|x) of `sentences`, to sample from in place of the prior.

        `model.decode(model.aggregate(sentences).sample(5, seed=1).z)` writes 5 sentences. Args and errors as
        `seqvae.latent.density.fit_aggregate`.
        """
        batches = (batch for _, batch in self._by_length(sentences, labels))
        return fit_aggregate(self.model, batches, density=density, components=components, seed=seed)

    def score(self, sentences: Iterable[str], *, labels: Names = None, samples: int = 100, seed: int = 0) -> Tensor:
        """(B,) float64 nats: log p(x) of each sentence, importance weighted over `samples` draws of q(z|x).

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
        labels: Names = None,
        seed: int | None = None,
        temperature: float = 0.0,
        **options: Any,
    ) -> list[str]:
        """(B, D) -> B sentences, greedily unless a temperature is given; options as in `sample`.

        z is a tensor, an array or a list of rows.

        Where the model is conditioned on labels, `labels` is that of each sentence, or one for all. It need not be the
        one that z was encoded with: z says the rest of the sentence.
        """
        return [s.text for s in self.sentences(z, labels=labels, seed=seed, temperature=temperature, **options)]

    def sample(
        self, n: int = 1, *, label: Names = None, seed: int | None = None, temperature: float = 1.0, **options: Any
    ) -> list[str]:
        """`n` sentences from draws of the prior (for those of another density, see `aggregate`).

        Args:
            n: how many.
            label: where the model is conditioned on labels: the one that the sentences shall have (or a list, one for
                each). None draws labels as often as the training sentences have them.
            seed: of z and of the words; None draws new ones each time.
            temperature: 0 takes the likeliest word each time, 1 draws from the model, between is bolder than the one
                and safer than the other.
            options: `top_k`, `top_p`, `min_p`, `beam`, `max_length`, `allow_unknown` (`seqvae.model.decoding.decode`).
        """
        return [s.text for s in self.samples(n, label=label, seed=seed, temperature=temperature, **options)]

    def reconstruct(self, sentences: Iterable[str], *, labels: Names = None, **options: Any) -> list[str]:
        """Each sentence decoded from its posterior mean, greedily; labels as in `encode`, options as in `decode`."""
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
        """`steps` sentences from the reconstruction of `start` to that of `end`.

        Args:
            start: a sentence.
            end: another.
            label: of both sentences and of all between them, where the model is conditioned on labels.
            steps: 2 or more, the two ends included.
            path: `linear`, or `slerp` along the arc between the two directions; None takes `straight`.
            options: as in `decode`.
        """
        check_text("start", start)
        check_text("end", end)
        z = self.encode([start, end], labels=label).mode
        return self.decode(self.walk(z[0], z[1], steps=steps, path=path or self.straight), labels=label, **options)

    def samples(
        self, n: int, *, label: Names = None, seed: int | None = None, temperature: float = 1.0, **options: Any
    ) -> list[Sentence]:
        """As `sample`, with log probabilities."""
        z, labels = self.prior_draws(n, seed=seed), self.label_draws(n, seed=seed) if label is None else label
        return self.sentences(z, labels=labels, seed=seed, temperature=temperature, **options)

    def label_draws(self, n: int, *, seed: int | None = None) -> list[str] | None:
        """`n` labels, each as likely as it is frequent among the training sentences; None if there are no labels."""
        if not self.labels:
            return None
        check_whole(1, n=n)
        counts = torch.tensor(list(self.checkpoint.labels.values()), dtype=torch.float64)
        generator = seeded(shift_seed(seed, 2)).generator()
        return [self.labels[i] for i in torch.multinomial(counts, n, replacement=True, generator=generator).tolist()]

    def sentences(
        self,
        z: Points,
        *,
        labels: Names = None,
        seed: int | None = None,
        temperature: float = 0.0,
        beam: int = 0,
        **options: Any,
    ) -> list[Sentence]:
        """(B, D) -> B sentences with their log probabilities; labels as in `decode`, options as in `sample`."""
        z = read_points(z, self.model.latent, next(self.model.parameters()))
        options.setdefault("max_length", self.config.data.max_length)
        with torch.no_grad():
            z = self.model.conditioned(z, self.numbers(labels, len(z)))
        stream = seeded(seed)
        if temperature and not beam:
            options["generator"] = stream.generator()
        said = decode(self.model, z, temperature=1.0 if beam else temperature, beam=beam, **options)
        texts = self.tokenizer.decode_batch(said.tokens)
        return [Sentence(*row) for row in zip(texts, said.log_prob.tolist(), map(len, said.tokens), strict=True)]

    # -- measuring ----------------------------------------------------------------------------------------------------

    def evaluate(
        self, split: Split, *, samples: int = 100, seed: int = 0, seeds: int = 1, refined: int = 100
    ) -> Scores:
        """The scores of a split that was encoded with this model's tokenizer (see `score_split`)."""
        if not isinstance(split, Split):
            raise ConfigError(
                f"a {type(split).__name__} was given where a split is expected: write "
                "seqvae.data.text.corpus.load(sentences, tokenizer=model.tokenizer, whole=True).test"
            )
        check_seed(seed)
        check_whole(0, samples=samples, seeds=seeds, refined=refined)
        options = {"samples": samples, "seed": seed, "seeds": seeds, "refined": refined}
        return score_split(self.model, split, target_kl=self.config.held_kl, **options)[0]

    def sequences(self, sentences: Iterable[str]) -> list[list[int]]:
        """The ids of each sentence: its tokens, then the end unless it is cut.

        An `UnknownWordsWarning` names words that the vocabulary lacks; so wherever sentences are given to the model.
        """
        texts = read_texts(containers.sentences(sentences, self.config.data.column))
        longest = self.config.data.max_length
        found = [[*ids, END][:longest] for ids in self.tokenizer.encode_batch(texts)]
        warn(typed(self.tokenizer, texts, found), stacklevel=4)
        return found

    def numbers(self, labels: Names, count: int) -> Tensor | None:
        """(count,) int64, the numbers of their labels, or None: `seqvae.data.text.labels.numbered`."""
        found = numbered(labels, self.labels, self.config.data.label_column, count)
        return None if found is None else torch.tensor(found, dtype=torch.long)

    def labels_of(self, split: Split) -> list[str] | None:
        """The label of each sentence of a split that was read for this model; None for a model without labels."""
        return None if split.labels is None else [self.labels[number] for number in split.labels]

    def _by_length(self, sentences: Iterable[str], labels: Names) -> Iterable[tuple[Sequence[int], Batch]]:
        """Batches of sentences of like length, with the places of the sentences."""
        sequences = self.sequences(sentences)
        if not sequences:
            raise ConfigError("no sentence was given")
        numbers = self.numbers(labels, len(sequences))
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        parts = [order[i : i + ROWS] for i in range(0, len(order), ROWS)]
        return ((part, _batch(sequences, numbers, part)) for part in parts)


def _batch(sequences: list[list[int]], numbers: Tensor | None, rows: Sequence[int]) -> Batch:
    batch = Batch.of([sequences[row] for row in rows])
    return batch if numbers is None else dataclasses.replace(batch, labels=numbers[list(rows)])
