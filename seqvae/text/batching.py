"""Batches of sentences of like length, in an order that is a pure function of (seed, epoch, rank, world).

Rows of equal length need no padding, and on a CPU an `nn.LSTM` over them is several times as fast as over packed rows.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from seqvae.batch import Batch
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
    """The training batches of a split: each sentence once an epoch, over all ranks together; none is dropped.

    Every epoch shuffles the sentences, sorts them by length (equal lengths stay shuffled), cuts the row into steps of
    `world * batch_size`, deals each step out in turn so that the ranks get like lengths, and shuffles the steps. All
    ranks have the same number of batches; only where a step has fewer sentences than there are ranks (the last of the
    row, or with `exact_length` the last of a length) do some ranks repeat one of its sentences.

    >>> from seqvae.text.corpus import load
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
        rank: int = 0,
        world: int = 1,
        exact_length: bool = False,
    ):
        """Plan the batches of one rank.

        Args:
            split: the sentences.
            batch_size: most sentences of a batch, on each rank.
            seed: of the order.
            rank: which of the processes this is, from 0.
            world: how many processes share the epoch.
            exact_length: whether all sentences of a batch have the same number of ids.

        Raises:
            ConfigError: for a batch size below 1 or a rank outside the world.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; it must be at least 1")
        if not 0 <= rank < world:
            raise ConfigError(f"rank is {rank}; it must lie in 0 .. {world - 1}, as there are {world} processes")
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.rank, self.world, self.exact_length = rank, world, exact_length
        self._cuts = self._cut()

    @property
    def steps(self) -> int:
        """Batches an epoch, the same for every rank and every epoch."""
        return len(self._cuts) - 1

    def plan(self, epoch: int) -> list[np.ndarray]:
        """For each step of the epoch, the (b,) indices of this rank's sentences."""
        random = np.random.default_rng([self.seed, epoch])
        shuffled = random.permutation(len(self.split)).astype(np.int32)
        # A stable sort of 16-bit numbers is a radix sort: linear, a tenth of a second for millions.
        keys = np.minimum(self.split.lengths, np.iinfo(np.int16).max).astype(np.int16)
        order = shuffled[np.argsort(keys[shuffled], kind="stable")]
        starts, ends = self._cuts[:-1].tolist(), self._cuts[1:].tolist()
        steps = random.permutation(self.steps).tolist()
        return [self._deal(order[starts[step] : ends[step]]) for step in steps]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch on this rank, from step `start` on."""
        for indices in self.plan(epoch)[start:]:
            yield self.split.batch(indices)

    def extra(self, start: int = 0) -> Iterator[Batch]:
        """Batches without end, from the `start`-th on: epochs beside those of the training, each in its own order."""
        epoch, index = divmod(start, self.steps)
        while True:
            yield from self.epoch(EXTRA + epoch, start=index)
            epoch, index = epoch + 1, 0

    def _deal(self, step: np.ndarray) -> np.ndarray:
        return step[self.rank % len(step) :: self.world]

    def _cut(self) -> np.ndarray:
        """(steps + 1,) where the steps begin in the row sorted by length: the same in every epoch."""
        size = self.batch_size * self.world
        if not self.exact_length:
            return np.append(np.arange(0, len(self.split), size), len(self.split))
        ends = np.cumsum(np.unique(self.split.lengths, return_counts=True)[1])
        begins = np.concatenate([[0], ends[:-1]])
        pieces = [np.arange(begin, end, size) for begin, end in zip(begins, ends, strict=True)]
        return np.append(np.concatenate(pieces), len(self.split))


def ordered(
    split: Batchable, batch_size: int = 64, max_tokens: int | None = None
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Each sentence once, in order of length, with the (b,) indices that lead back to the order of the split.

    Args:
        split: the sentences.
        batch_size: most sentences of a batch.
        max_tokens: most ids of a batch, padding included; a sentence longer than that stands alone.

    >>> from seqvae.text.corpus import load
    >>> corpus = load(["a b c", "d", "e f"], whole=True)
    >>> [(indices.tolist(), batch.tokens) for indices, batch in ordered(corpus.test, batch_size=2)]
    [([1, 2], 5), ([0], 4)]
    """
    order = np.argsort(split.lengths, kind="stable")
    lengths = split.lengths[order]
    start = 0
    while start < len(order):
        end = min(start + batch_size, len(order))
        if max_tokens is not None:
            padded = lengths[start:end].astype(np.int64) * np.arange(1, end - start + 1)
            end = start + max(1, int(np.searchsorted(padded, max_tokens, side="right")))
        yield order[start:end], split.batch(order[start:end])
        start = end
