"""Batches of sentences of like length, in an order that is a pure function of (seed, epoch).

Rows of equal length need no padding, and on a CPU an `nn.LSTM` over them is several times as fast as over packed rows.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError


class Batchable(Protocol):
    """N sequences that batches can be made of: a split of sentences, or one of series."""

    @property
    def lengths(self) -> np.ndarray:
        """(N,) steps of each."""

    def __len__(self) -> int:
        """N."""

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Some of them, in the given order."""


EXTRA = 2**32  # the number of the first epoch that no training reaches


class Batches:
    """The training batches of a split: each sentence once an epoch; none is dropped.

    Every epoch shuffles the sentences, sorts them by length (equal lengths stay shuffled), cuts the row into steps of
    `batch_size`, and shuffles the steps. They do not depend on how many processes share
    them (`seqvae.training.sharing`).

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
            split: the sentences.
            batch_size: most sentences of a batch.
            seed: of the order.
            exact_length: whether all sentences of a batch have the same number of ids.
            max_tokens: most ids of a batch, padding included; a sentence longer than that stands alone.

        Raises:
            ConfigError: for a batch size below 1.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; it must be at least 1")
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.exact_length, self.max_tokens = exact_length, max_tokens
        self._cuts = self._cut()

    @property
    def steps(self) -> int:
        """Batches an epoch, the same for every epoch."""
        return len(self._cuts) - 1

    def plan(self, epoch: int) -> list[np.ndarray]:
        """For each step of the epoch, the (b,) indices of its sentences."""
        random = np.random.default_rng([self.seed, epoch])
        shuffled = random.permutation(len(self.split)).astype(np.int32)
        # A stable sort of 16-bit numbers is a radix sort: linear, a tenth of a second for millions.
        keys = np.minimum(self.split.lengths, np.iinfo(np.int16).max).astype(np.int16)
        order = shuffled[np.argsort(keys[shuffled], kind="stable")]
        starts, ends = self._cuts[:-1].tolist(), self._cuts[1:].tolist()
        steps = random.permutation(self.steps).tolist()
        return [order[starts[step] : ends[step]] for step in steps]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `start` on."""
        for indices in self.plan(epoch)[start:]:
            yield self.split.batch(indices)

    def extra(self, start: int = 0) -> Iterator[Batch]:
        """Batches without end, from the `start`-th on: epochs beside those of the training, each in its own order."""
        epoch, index = divmod(start, self.steps)
        while True:
            yield from self.epoch(EXTRA + epoch, start=index)
            epoch, index = epoch + 1, 0

    def _cut(self) -> np.ndarray:
        """(steps + 1,) where the steps begin in the row sorted by length: the same in every epoch."""
        size = self.batch_size
        borders = np.array([0, len(self.split)])
        if self.exact_length:
            borders = np.append(0, np.cumsum(np.unique(self.split.lengths, return_counts=True)[1]))
        groups = pairwise(borders.tolist())
        if self.max_tokens is None:
            return np.append(np.concatenate([np.arange(*group, size) for group in groups]), len(self.split))
        lengths = np.sort(self.split.lengths).astype(np.int64)
        cuts = [start for g in groups for start, _ in within(lengths, *g, size, self.max_tokens)]
        return np.append(cuts, len(self.split))


def within(lengths: np.ndarray, start: int, stop: int, size: int, tokens: int) -> Iterator[tuple[int, int]]:
    """Where steps begin and end in a row of lengths that do not fall.

    Args:
        lengths: (N,) int64.
        start: where the first begins.
        stop: where the last ends.
        size: most sentences of a step.
        tokens: most ids of a batch, padding included; a sentence longer than that stands alone.
    """
    while start < stop:
        end = min(start + size, stop)
        padded = lengths[start:end] * np.arange(1, end - start + 1)
        end = start + max(1, int(np.searchsorted(padded, tokens, side="right")))
        yield start, end
        start = end


def ordered(
    split: Batchable, batch_size: int = 64, max_tokens: int | None = None
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Each sentence once, in order of length, with the (b,) indices that lead back to the order of the split.

    Args:
        split: the sentences.
        batch_size: most sentences of a batch.
        max_tokens: most ids of a batch, padding included; a sentence longer than that stands alone.

    >>> from seqvae.data.text.corpus import load
    >>> corpus = load(["a b c", "d", "e f"], whole=True)
    >>> [(indices.tolist(), batch.tokens) for indices, batch in ordered(corpus.test, batch_size=2)]
    [([1, 2], 5), ([0], 4)]
    """
    order = np.argsort(split.lengths, kind="stable")
    lengths = split.lengths[order].astype(np.int64)
    most = np.iinfo(np.int64).max if max_tokens is None else max_tokens
    for start, end in within(lengths, 0, len(order), batch_size, most):
        yield order[start:end], split.batch(order[start:end])
