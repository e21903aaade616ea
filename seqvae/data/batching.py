"""Batches of sequences of like length, in an order that is a pure function of (seed, epoch).

Rows of equal length need no padding, and an encoder that reads backward need not turn them around.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

import numpy as np

from seqvae.data.batch import Batch
from seqvae.data.corpus import PART, Indices, permute
from seqvae.errors import ConfigError


class Batchable(Protocol):
    """N sequences that batches can be made of, such as a `seqvae.data.corpus.Split`."""

    @property
    def lengths(self) -> np.ndarray:
        """(N,) the steps of each sequence."""

    def __len__(self) -> int:
        """Return N."""

    def batch(self, indices: Indices) -> Batch:
        """Return some sequences as a batch, in the given order."""


EVEN = 16  # sequences of one length that are worth a batch of their own
MOST_SORTED = np.iinfo(np.int16).max  # steps that are told apart
EXTRA = 2**32  # the number of the first epoch that no training reaches


class Batches:
    """The training batches of a split: each sequence once an epoch; none is dropped.

    Every epoch shuffles the sequences, sorts them by length (equal lengths stay shuffled), splits them into batches of
    `batch_size`, and shuffles the batches. The batches do not depend on how many processes share them
    (`seqvae.training.distributed`).

    >>> from seqvae.data.text.corpus import load
    >>> corpus = load(["a b c", "d e", "f g", "h i j", "k l m n"], whole=True)
    >>> batches = Batches(corpus.test, batch_size=2, exact_length=True)
    >>> batches.steps, sorted(batch.tokens for batch in batches.epoch(0))
    (3, [5, 6, 8])
    """

    def __init__(
        self,
        split: Batchable,
        *,
        batch_size: int = 64,
        seed: int = 0,
        exact_length: bool = False,
        max_tokens: int | None = None,
    ):
        """Plan the batches.

        Args:
            split: the sequences.
            batch_size: most sequences of a batch.
            seed: of the order.
            exact_length: whether all sequences of a batch have the same length.
            max_tokens: most steps of a batch, padding included; a longer sequence is a batch of its own.

        Raises:
            ConfigError: for a batch size below 1.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; it must be at least 1")
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.exact_length, self.max_tokens = exact_length, max_tokens
        self._boundaries = self._find_boundaries()

    @property
    def steps(self) -> int:
        """The number of batches of an epoch, the same for every epoch."""
        return len(self._boundaries) - 1

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Return the (b,) indices of the sequences of each batch of an epoch."""
        random = np.random.default_rng([self.seed, epoch])
        order = sort_by_length(permute(len(self.split), random), self.split.lengths)
        starts, ends = self._boundaries[:-1].tolist(), self._boundaries[1:].tolist()
        steps = random.permutation(self.steps).tolist()
        return [order[starts[step] : ends[step]] for step in steps]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from the `start`-th on."""
        for indices in self.plan(epoch)[start:]:
            yield self.split.batch(indices)

    def extra(self, start: int = 0) -> Iterator[Batch]:
        """Yield batches without end, from the `start`-th on: of epochs beside those of the training."""
        epoch, index = divmod(start, self.steps)
        while True:
            yield from self.epoch(EXTRA + epoch, start=index)
            epoch, index = epoch + 1, 0

    def _find_boundaries(self) -> np.ndarray:
        """Return (steps + 1,) where the batches begin among the sequences sorted by length, and the number of these."""
        size = max(1, min(self.batch_size, len(self.split)))
        groups = np.array([0, len(self.split)])
        if self.exact_length:
            groups = np.append(0, np.cumsum(np.unique(self.split.lengths, return_counts=True)[1]))
        pairs = pairwise(groups.tolist())
        if self.max_tokens is None:
            return np.append(np.concatenate([np.arange(*pair, size) for pair in pairs]), len(self.split))
        lengths = np.sort(self.split.lengths).astype(np.int64)
        starts = [start for pair in pairs for start, _ in split_by_tokens(lengths, *pair, size, self.max_tokens)]
        return np.append(starts, len(self.split))


def sort_by_length(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return rows (N,) by ascending length, equal lengths in their order; all from `MOST_SORTED` steps on are equal.

    A part of the rows is sorted at a time, so that memory holds little beside two numbers for each row.
    """
    order, parts = np.empty_like(rows), [rows[start : start + PART] for start in range(0, len(rows) or 1, PART)]
    keys = [np.minimum(lengths[part], MOST_SORTED).astype(np.int16) for part in parts]
    counts = np.stack([np.bincount(some, minlength=MOST_SORTED + 1) for some in keys])
    ends = np.cumsum(counts.sum(0))
    first = ends - counts.sum(0) + np.cumsum(counts, axis=0) - counts  # where each length of each part begins
    for part, some, count, start in zip(parts, keys, counts, first, strict=True):
        by_length = part[np.argsort(some, kind="stable")]  # of 16-bit numbers: a radix sort, linear
        at = 0
        for length in np.flatnonzero(count).tolist():
            order[start[length] : start[length] + count[length]] = by_length[at : at + count[length]]
            at += count[length]
    return order


def split_by_tokens(lengths: np.ndarray, start: int, stop: int, size: int, tokens: int) -> Iterator[tuple[int, int]]:
    """Yield where batches begin and end among sequences sorted by length.

    Args:
        lengths: (N,) int64, ascending.
        start: where the first batch begins.
        stop: where the last one ends.
        size: most sequences of a batch.
        tokens: most steps of a batch, padding included; a longer sequence is a batch of its own.
    """
    while start < stop:
        end = min(start + size, stop)
        padded = lengths[start:end] * np.arange(1, end - start + 1)
        end = start + max(1, int(np.searchsorted(padded, tokens, side="right")))
        yield start, end
        start = end


def divide_by_length(lengths: np.ndarray, batch_size: int = 64, max_tokens: int | None = None) -> Iterator[np.ndarray]:
    """Yield the (b,) indices of batches of sequences in order of length; most batches have rows of one length.

    Where many sequences have the same length, at least 16 and a quarter of a batch, they do not share one with others.

    Args:
        lengths: (N,) steps of each sequence.
        batch_size: most sequences of a batch.
        max_tokens: most steps of a batch, padding included; a longer sequence is a batch of its own.

    >>> [indices.tolist() for indices in divide_by_length(np.array([3, 1, 2]), batch_size=2)]
    [[1, 2], [0]]
    """
    order = np.argsort(lengths, kind="stable")
    ascending = lengths[order].astype(np.int64)
    most = np.iinfo(np.int64).max if max_tokens is None else max_tokens
    _, first, counts = np.unique(ascending, return_index=True, return_counts=True)
    many = counts >= max(EVEN, batch_size // 4)
    cuts = np.unique(np.concatenate([[0, len(order)], first[many], (first + counts)[many]]))
    for pair in pairwise(cuts.tolist()):
        for start, end in split_by_tokens(ascending, *pair, batch_size, most):
            yield order[start:end]


def iterate_by_length(
    split: Batchable, batch_size: int = 64, max_tokens: int | None = None
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Yield each sequence once, in order of length: (b,) indices, which lead back to the order of the split, and batch.

    Args as in `divide_by_length`, but for the split, whose sequences these are.

    >>> from seqvae.data.text.corpus import load
    >>> corpus = load(["a b c", "d", "e f"], whole=True)
    >>> [(indices.tolist(), batch.tokens) for indices, batch in iterate_by_length(corpus.test, batch_size=2)]
    [([1, 2], 5), ([0], 4)]
    """
    for indices in divide_by_length(split.lengths, batch_size, max_tokens):
        yield indices, split.batch(indices)
