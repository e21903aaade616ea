"""Writing with a model of text: to complete, fill in, paraphrase and blend sentences, and to find the nearest ones."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.data.text.labels import Label, Labels
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import ConfigError, check_number, check_text, check_whole, read_texts
from seqvae.latent.imputation import Task, impute
from seqvae.latent.nearest import Neighbour, find_nearest
from seqvae.latent.paraphrasing import TEMPERATURE, check_temperature, find_others, measure_distance
from seqvae.latent.templates import Template, read_prefix, read_template, read_words
from seqvae.model.distributions import get_gaussian_parameters
from seqvae.model.patterns import Rules
from seqvae.pretrained import Pretrained
from seqvae.rng import Stream, shift_seed

RULES = ("banned", "required", "no_repeat")  # options of decoding that are about words
DRAWS, SAMPLES = 32, 10  # z for each paraphrase that is asked for; samples of its log p(x)


@dataclass(frozen=True)
class Written:
    """A sentence that a model has written, with log p(x), nats, importance weighted."""

    text: str
    log_prob: float


class Writer(Pretrained):
    """What a model of text can do with sentences of yours."""

    tokenizer: Tokenizer

    @abstractmethod
    def encode(self, sentences: Iterable[str], *, labels: Labels = None) -> Distribution:
        """Return the posterior q(z|x)."""

    @abstractmethod
    def decode(self, z: Any, *, labels: Labels = None, **options: Any) -> list[str]:
        """Decode points into sentences."""

    @abstractmethod
    def score(self, sentences: Iterable[str], *, labels: Labels = None, samples: int = 100, seed: int = 0) -> Tensor:
        """Estimate log p(x) of each sentence."""

    @abstractmethod
    def tokenize(self, sentences: Iterable[str]) -> list[list[int]]:
        """Return the ids of each sentence."""

    @abstractmethod
    def load_corpus(self, source: Any = None, *, column: str | None = None, whole: bool | None = None) -> Any:
        """Read a corpus in this model's tokens."""

    @abstractmethod
    def number_labels(self, labels: Labels, count: int) -> Tensor | None:
        """Return the numbers of labels."""

    def complete(
        self, prefix: str, n: int = 5, *, label: Label | None = None, seed: int | None = None, **rules: Any
    ) -> list[Written]:
        """Write n sentences that begin with `prefix`, the best first by log p(x) / length ** 0.7.

        The z come from the prior, those under which the prefix is likeliest, and then move towards likelier sentences
        (`seqvae.latent.imputation`).

        Args:
            prefix: one word or more, all known to the model.
            n: number of sentences; fewer are returned where fewer are found.
            label: for a model conditioned on labels.
            seed: None takes new random numbers each time.
            rules: `banned`, `required`: lists of words; `no_repeat`: the length of n-grams that must not occur twice.

        Raises:
            ConfigError: for an empty prefix or unknown words.
        """
        return self._impute(read_prefix(prefix, self.tokenizer), n, label, seed, rules)

    def fill(
        self, text: str, n: int = 5, *, label: Label | None = None, seed: int | None = None, **rules: Any
    ) -> list[Written]:
        """Fill in the blanks of a sentence, `_` with one word and `__` with one or more, in n ways, the best first.

        All blanks together hold 8 words each at most, so that the search ends soon.

        Args, order and errors as `complete`.
        """
        return self._impute(read_template(text, self.tokenizer), n, label, seed, rules)

    def paraphrase(
        self,
        text: str,
        n: int = 5,
        *,
        temperature: float = TEMPERATURE,
        label: Label | None = None,
        seed: int | None = None,
    ) -> list[Written]:
        """Write n other sentences from z around q(z|x), the nearest first; see `seqvae.latent.paraphrasing`.

        Args:
            text: a sentence.
            n: number of sentences; fewer are returned where fewer differ.
            temperature: of q: its standard deviations are multiplied by this; more gives freer paraphrases.
            label: for a model conditioned on labels.
            seed: None takes new random numbers each time.

        Raises:
            ConfigError: for an empty text.
        """
        check_text("text", text)
        if not text.strip():
            raise ConfigError("the text is empty: expected a sentence; without any, write sample")
        check_whole(1, n=n)
        check_temperature(temperature)
        q = self.encode([text], labels=label)
        gaussian, shape = get_gaussian_parameters(q), torch.Size([DRAWS * n])
        with Stream(shift_seed(seed)):
            z = (
                q.sample(shape)
                if gaussian is None
                else gaussian[0] + temperature * gaussian[1] * torch.randn(*shape, *q.event_shape)
            )
        texts = self.decode(z.reshape(-1, self.model.latent), labels=label)
        others = [texts[place] for place in find_others(text, texts)]
        if not others:
            return []
        log_prob, lengths = self.score(others, labels=label, samples=SAMPLES), map(len, self.tokenize(others))
        distance = measure_distance(q, self.encode(others, labels=label).mode)
        ranks = log_prob / torch.tensor([*lengths]) - distance
        return [Written(others[i], log_prob[i].item()) for i in ranks.argsort(descending=True).tolist()[:n]]

    def blend(
        self,
        texts: Sequence[str],
        weights: Sequence[float] | None = None,
        *,
        label: Label | None = None,
        **options: Any,
    ) -> str:
        """Decode the weighted mean of the posterior means of some sentences: one sentence between them.

        Args:
            texts: two sentences or more.
            weights: one for each, of any sum above 0; None weighs all alike.
            label: for a model conditioned on labels.
            options: as in `decode`.
        """
        texts = read_texts(texts)
        if len(texts) < 2:
            raise ConfigError(f"{len(texts)} sentence was given to blend: expected two or more")
        shares = read_weights(weights, len(texts))
        z = self.encode(texts, labels=label).mode
        mean = shares.to(z) @ z
        if self.model.prior.spherical:
            mean = torch.nn.functional.normalize(mean, dim=0)
        return self.decode(mean[None], labels=label, **options)[0]

    def nearest(
        self, text: str, corpus: Any, n: int = 5, *, label: Label | None = None, column: str | None = None
    ) -> list[Neighbour]:
        """Find the n sentences of a corpus whose posterior means are nearest to that of a text, the nearest first.

        Args:
            text: a sentence.
            corpus: anything that `fit` takes; a corpus that comes in splits is searched whole.
            n: number of sentences; each is returned once, however often the corpus has it.
            label: of the text, for a model conditioned on labels.
            column: of a table, the one that holds the sentences.
        """
        check_text("text", text)
        check_whole(1, n=n)
        z = self.encode([text], labels=label).mode
        splits = self.load_corpus(corpus, column=column, whole=True).splits.values()
        found = [one for split in splits for one in find_nearest(self.model, z, split, n)]
        first = {one.text: one for one in sorted(found, key=lambda one: -one.distance)}
        return sorted(first.values(), key=lambda one: one.distance)[:n]

    def _impute(
        self, template: Template, n: int, label: Label | None, seed: int | None, rules: dict[str, Any]
    ) -> list[Written]:
        check_whole(1, n=n)
        self._require_latent()
        task = Task(
            template.given,
            template.pattern,
            read_rules(self.tokenizer, **rules),
            min(template.max_length, self.config.data.max_length),
            self.number_labels(label, 1),
        )
        found = impute(self.model, task, n, seed=seed)
        return [Written(self.tokenizer.decode(one.tokens), one.log_prob) for one in found]


def read_rules(
    tokenizer: Tokenizer, *, banned: Sequence[str] = (), required: Sequence[str] = (), no_repeat: int = 0
) -> Rules:
    """Read rules of words as rules of ids.

    Raises:
        ConfigError: for words that the tokenizer does not know, or that are required and banned.
    """
    for name, words in (("banned", banned), ("required", required)):
        if isinstance(words, str):
            raise ConfigError(f"{name} = {words!r}: expected a list of words: write [{words!r}]")
    ids = [[read_words(word, tokenizer) for word in read_texts(words)] for words in (banned, required)]
    for one, word in zip(ids[1], required, strict=True):
        for other, refused in zip(ids[0], banned, strict=True):
            if any(one[start : start + len(other)] == other for start in range(len(one) - len(other) + 1)):
                raise ConfigError(f"{word!r} is required and {refused!r} is banned: leave one of them out")
    return Rules(ids[0], ids[1], no_repeat)


def read_weights(weights: Sequence[float] | None, count: int) -> Tensor:
    """Return `count` weights of sum 1; None weighs all alike.

    Raises:
        ConfigError: for another number of them, or a sum that is not above 0.
    """
    if weights is None:
        return torch.full((count,), 1 / count)
    values = list(weights)
    if len(values) != count:
        raise ConfigError(f"{len(values)} weights were given for {count} sentences: expected one for each")
    for value in values:
        check_number(weights=value)
    total = float(sum(values))
    if not 0 < total < math.inf:
        raise ConfigError(f"the weights have the sum {total:g}: expected a finite one above 0")
    return torch.tensor([float(value) / total for value in values])
