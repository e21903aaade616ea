"""Baselines without a latent space: a Kneser-Ney n-gram model of text, and simple predictors of series.

Every n-gram has a number, its index in the sorted keys of its order; a key is the number of its context (the n-gram
without the last word) times the vocabulary, plus the last word. So a million n-grams are a few arrays, and many
sequences are counted or scored at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from seqvae.data.batch import PADDING, START
from seqvae.data.series.corpus import SeriesSplit
from seqvae.errors import ConfigError
from seqvae.model.observations.frames import MIN_SIGMA

DISCOUNT = 0.75  # where the counts do not determine it

_NO_KEY = np.iinfo(np.int64).max  # a key that no n-gram has


@dataclass(frozen=True, eq=False)
class NGramTable:
    """The M n-grams of one order; the last entry of each array is for unseen n-grams and contexts.

    Attributes:
        keys: (M + 1,) int64, ascending.
        probability: (M + 1,) float64, (a(hw) - D) / A(h).
        backoff: (contexts + 1,) float64, D N(h) / A(h).
        discount: D.
    """

    keys: np.ndarray
    probability: np.ndarray
    backoff: np.ndarray
    discount: float

    @classmethod
    def from_counts(
        cls, keys: np.ndarray, counts: np.ndarray, contexts: int, vocabulary: int, discount: float | None
    ) -> "NGramTable":
        """Compute the table from the adjusted counts a(hw) of the n-grams, (M,) each, and the number of contexts."""
        if discount is None:
            once, twice = (counts == 1).sum(), (counts == 2).sum()
            discount = float(once / (once + 2 * twice)) if once and twice else DISCOUNT
        context = keys // vocabulary
        total = np.bincount(context, counts, minlength=contexts)
        followers = np.bincount(context, counts > 0, minlength=contexts)
        probability = np.where(counts > 0, counts - discount, 0) / np.maximum(total[context], 1)
        backoff = np.where(total > 0, discount * followers / np.maximum(total, 1), 1.0)
        return cls(np.append(keys, _NO_KEY), np.append(probability, 0.0), np.append(backoff, 1.0), discount)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Find the number of each n-gram, -1 for unseen ones."""
        found = np.searchsorted(self.keys, keys)
        return np.where(self.keys[found] == keys, found, -1)


@dataclass(frozen=True, eq=False)
class NGram:
    """An n-gram language model with interpolated Kneser-Ney smoothing.

    p(w|h) = (a(hw) - D) / A(h) + D N(h) / A(h) p(w|h'), where h' is h without its first word, A(h) sums a(hv) over the
    N(h) different words v that follow h, and a(hw) is how often hw occurs if it has the highest order or begins a
    sentence, else how many different words precede it. Unigrams back off to the uniform distribution over what can be
    generated: every id but padding and BOS. So every sequence has a finite log-probability.

    Source: Kneser & Ney, Improved backing-off for m-gram language modeling, 1995; interpolated as in Chen & Goodman, An
    empirical study of smoothing techniques for language modeling, 1999; the beginnings of sentences as in Heafield,
    Pouzyrevsky, Clark & Koehn, Scalable modified Kneser-Ney language model estimation, 2013.

    >>> model = NGram.fit([[4, 5, 2], [4, 4, 2]], order=2, vocabulary=6, discount=0.75)
    >>> round(float(np.exp(model.log_prob([4]))), 4)
    0.7609

    Attributes:
        vocabulary: V, the number of ids, padding and BOS included.
        tables: of each order, unigrams first.
    """

    vocabulary: int
    tables: tuple[NGramTable, ...]

    @classmethod
    def fit(
        cls, sequences: Sequence[Sequence[int]], *, order: int = 5, vocabulary: int, discount: float | None = None
    ) -> "NGram":
        """Count the n-grams of `sequences`.

        Args:
            sequences: the ids of each sentence and its EOS, unless it was truncated; BOS is implied.
            order: of the longest n-grams, in words; 1 is a smoothed unigram model.
            vocabulary: V, the number of ids, padding and BOS included.
            discount: D, above 0 and at most 1; None estimates n1 / (n1 + 2 n2) for each order, n1 and n2 being the
                numbers of n-grams with an a(hw) of 1 and of 2 (0.75 where either is 0).

        Raises:
            ConfigError: for an order below 1 or a discount out of range.
        """
        if order < 1:
            raise ConfigError(f"the order of an n-gram model is {order}; it must be at least 1, unigrams")
        if discount is not None and not 0 < discount <= 1:
            raise ConfigError(f"discount is {discount}; it must lie above 0 and at most at 1, or be None (estimated)")
        counted = _count(*_flatten(sequences, vocabulary), order, vocabulary)
        contexts = [1, *(len(keys) for keys, _ in counted)]  # the empty one, then the n-grams of the order below
        tables = (
            NGramTable.from_counts(keys, counts, total, vocabulary, discount)
            for (keys, counts), total in zip(counted, contexts, strict=False)
        )
        return cls(vocabulary, tuple(tables))

    def log_prob(self, sequence: Sequence[int]) -> float:
        """Return log p(sequence), nats, summed over all its ids (EOS only if it is there)."""
        return float(self.log_probs([sequence])[0])

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Return `log_prob` of each of many sequences, (N,) float64, nats."""
        words, position = _flatten(sequences, self.vocabulary)
        p = np.full(len(words), 1 / (self.vocabulary - 2))
        number = np.zeros(len(words), np.int64)
        for size, table in enumerate(self.tables, 1):
            here = np.flatnonzero(position >= size - 1)
            context = np.roll(number, 1)[here]
            found = table.find(context * self.vocabulary + words[here])  # of an unseen context the key is negative
            p[here] = table.probability[found] + table.backoff[context] * p[here]
            number = np.full(len(words), -1)
            number[here] = found
        row = np.cumsum(position == 0) - 1
        return np.bincount(row, np.where(position > 0, np.log(p), 0.0), minlength=len(sequences))


def _count(words: np.ndarray, position: np.ndarray, order: int, vocabulary: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Count n-grams: for each size up to `order` their keys and their adjusted counts a(hw)."""
    counted: list[tuple[np.ndarray, np.ndarray]] = []
    number = np.zeros(len(words), np.int64)  # of the n-gram of the size before that ends here
    for size in range(1, order + 1):
        here = np.flatnonzero(position >= size - 1)
        key = np.roll(number, 1)[here] * vocabulary + words[here]
        keys, first, inverse, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
        if size == 1:
            counts[keys == START] = 0  # BOS is a context and never a target
        else:  # of the shorter n-grams count the words before them, unless they begin a sentence
            shorter, times = counted[-1]
            preceded = np.bincount(number[here[first]], minlength=len(shorter))
            beginning = number[position == size - 2]
            preceded[beginning] = times[beginning]
            counted[-1] = shorter, preceded
        counted.append((keys, counts))
        number = np.full(len(words), -1)
        number[here] = inverse
    return counted


def _flatten(sequences: Sequence[Sequence[int]], vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate all sequences, each after BOS; return them and the position of each id in its own sequence."""
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences)) + 1
    words = np.fromiter(chain.from_iterable(chain((START,), ids) for ids in sequences), np.int64, lengths.sum())
    position = np.arange(len(words)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    targets = words[position > 0]
    if len(targets) and (targets.min() <= max(PADDING, START) or targets.max() >= vocabulary):
        raise ValueError(f"ids must lie in {max(PADDING, START) + 1} .. {vocabulary - 1}, without padding and BOS")
    return words, position


ORDER = 2  # of the linear autoregression, in frames


@dataclass(frozen=True, eq=False)
class LinearAutoregression:
    """A linear autoregression: each frame linear in the `order` frames before it, Gaussian noise, geometric length.

    log p(x) = sum_t [ log(1 - s) + sum_c log N(x_tc; a_c + sum_k (A_k x_{t-k})_c, v_c) ] + [ended] log s

    with the least-squares a and A, the residual variance v of each channel, and s the fraction of frames that are the
    last. The first frames, which have too few before them, are from a Gaussian of the channel. Order 0 is that Gaussian
    alone: independent of time.

    Attributes:
        order: the number of frames before that each depends on.
        weights: (order * F + 1, F), the constant last.
        variances: (F,) of the residuals.
        mean, variance: (F,) of the frames, independent of time.
        stop: s.
    """

    order: int
    weights: np.ndarray
    variances: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    stop: float

    @classmethod
    def fit(cls, split: SeriesSplit, order: int) -> "LinearAutoregression":
        """Fit by least squares to the frames of a split.

        Args:
            split: the training series.
            order: 0 or more.
        """
        series = [one.astype(np.float64) for one in split.series()]
        frames = np.concatenate(series)
        # A constant channel gets the least variance that a model may give it: else no model could come near this one.
        least = np.where(frames.var(0) > 0, np.finfo(np.float64).tiny ** 0.25, MIN_SIGMA**2)
        mean, variance = frames.mean(0), np.maximum(frames.var(0), least)
        before, after = (np.concatenate(parts) for parts in zip(*(_windows(s, order) for s in series), strict=True))
        weights = np.linalg.lstsq(before, after, rcond=None)[0]
        residual = np.maximum((after - before @ weights).var(0), least) if len(after) else variance
        ends = int(split.complete.sum())
        stop = min(max(ends, 0.5) / int(split.lengths.sum()), 0.5 if not ends else 1.0)
        return cls(order, weights, residual, mean, variance, stop)

    def nll(self, split: SeriesSplit) -> np.ndarray:
        """Return -log p of each series, (N,) nats, in the units of the data."""
        found = []
        for series, complete in zip(split.series(), split.complete.tolist(), strict=True):
            x = series.astype(np.float64)
            before, after = _windows(x, self.order)
            log_prob = _log_normal(x[: self.order], self.mean, self.variance)
            log_prob += _log_normal(after, before @ self.weights, self.variances)
            found.append(-log_prob - len(x) * math.log1p(-self.stop) - complete * math.log(self.stop))
        return np.array(found)


def _windows(x: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames before each, the nearest first, and a 1, (n, order * F + 1); and these frames, (n, F)."""
    count = max(len(x) - order, 0)
    back = [x[order - k : order - k + count] for k in range(1, order + 1)]
    return np.concatenate([*back, np.ones((count, 1))], axis=1), x[order:]


def _log_normal(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> float:
    return float(-0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum())


def score_series_baselines(split: SeriesSplit, train: SeriesSplit) -> dict[str, dict[str, float]]:
    """Score both baselines on a split: -log p(x) in nats per series and per frame.

    Args:
        split: the series that are scored.
        train: the series that the models are fitted to.
    """
    found = {}
    for name, order in {"gaussian": 0, "autoregression": ORDER}.items():
        nll = float(LinearAutoregression.fit(train, order).nll(split).sum())
        found[name] = {"nll": nll / len(split), "nll_per_frame": nll / split.frames}
    return found
