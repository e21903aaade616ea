"""SeriesCorpus: series in three splits, to be trained on and scored as a corpus of sentences is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xxhash

from seqvae.data.batch import Batch
from seqvae.data.series.sources import Table, open_series
from seqvae.errors import ConfigError, CorpusError

SHARE = 0.05  # of the series, for validation and again for test, where no file gives them
Indices = Sequence[int] | np.ndarray


@dataclass(frozen=True, eq=False)
class SeriesSplit:
    """N series; `split[3]` is the fourth one, (frames, F).

    Attributes:
        table: where they come from.
        numbers: (N,) their places in that table.
        max_length: series of more steps, the end included, are cut and then have no end.
    """

    table: Table
    numbers: np.ndarray
    max_length: int

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.series([range(len(self))[index]])[0]

    def series(self, indices: Indices | None = None) -> list[np.ndarray]:
        """Some series, or all, each (frames, F), as far as they are scored."""
        numbers = self.numbers if indices is None else self.numbers[np.asarray(indices, np.int64)]
        starts, lengths = self._starts[numbers], np.minimum(self.table.lengths[numbers], self.max_length)
        pairs = zip(starts.tolist(), lengths.tolist(), strict=True)
        return [self.table.values[start : start + length] for start, length in pairs]

    def batch(self, indices: Indices) -> Batch:
        """Some series as a batch."""
        numbers = self.numbers[np.asarray(indices, np.int64)]
        starts = self._starts[numbers].tolist()
        pairs = zip(starts, self.table.lengths[numbers].tolist(), strict=True)
        whole = [self.table.values[start : start + length] for start, length in pairs]
        return Batch.of_frames(whole, longest=self.max_length)

    def select(self, indices: Indices) -> "SeriesSplit":
        """A split of some of the series, in the given order."""
        return replace(self, numbers=self.numbers[np.asarray(indices, np.int64)])

    def at_most(self, limit: int | None) -> "SeriesSplit":
        """The split, or `limit` of its series evenly spread over it, always the same ones; None = no limit."""
        if limit is None or len(self) <= limit:
            return self
        return self.select(np.linspace(0, len(self) - 1, limit).astype(np.int64))

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int32, the steps of each series: its frames and its end, as far as they are not cut."""
        return np.minimum(self.table.lengths[self.numbers] + 1, self.max_length).astype(np.int32)

    @cached_property
    def complete(self) -> np.ndarray:
        """(N,) bool, false where a series was cut and so has no end."""
        return self.table.lengths[self.numbers] < self.max_length

    @cached_property
    def keys(self) -> np.ndarray:
        """(N,) uint64, equal for equal series as far as they are scored."""
        series = (np.ascontiguousarray(one, np.float64) for one in self.series())
        return np.array([xxhash.xxh3_64_intdigest(one.data) for one in series], np.uint64)

    @property
    def frames(self) -> int:
        """How many frames are scored, in all."""
        return int(np.minimum(self.table.lengths[self.numbers], self.max_length).sum())

    @property
    def channels(self) -> int:
        """F."""
        return self.table.values.shape[1]

    @property
    def columns(self) -> list[str]:
        """Names of what else is known of each series."""
        return list(self.table.columns)

    def column(self, name: str) -> list[Any]:
        """What else is known of each series, as labels or factors.

        Raises:
            ConfigError: for a column that the source has not.
        """
        if name not in self.table.columns:
            raise ConfigError(
                f"the corpus has no column {name!r}; its columns are: {', '.join(self.columns) or 'none'}"
            )
        return self.table.columns[name][self.numbers].tolist()

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.table.lengths)])


@dataclass(frozen=True, eq=False)
class SeriesCorpus:
    """A corpus ready to be trained on or measured: `train`, `valid`, `test` (None where there is none).

    Attributes:
        name: what to call the corpus.
        notes: facts about how it came about, each a short sentence.
    """

    train: SeriesSplit | None
    valid: SeriesSplit | None
    test: SeriesSplit | None
    name: str
    notes: list[str] = field(default_factory=list)
    tokenizer: None = None  # a corpus of sentences has one, and may have labels
    labels: dict[str, int] = field(default_factory=dict)

    @property
    def splits(self) -> dict[str, SeriesSplit]:
        """The splits there are, by name."""
        return {name: split for name in ("train", "valid", "test") if (split := getattr(self, name)) is not None}

    @property
    def size(self) -> int:
        """F, the channels of a frame: what a model is built for."""
        return next(iter(self.splits.values())).channels

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (F,) of each channel over the frames of train; 1 for one that never varies."""
        assert self.train is not None
        frames = np.concatenate(self.train.series()).astype(np.float64)
        std = frames.std(axis=0)
        return frames.mean(axis=0), np.where(std > 0, std, 1.0)

    @property
    def content(self) -> str:
        """The fingerprint, under the name that it has for sentences, where it leaves the tokenizer out."""
        return self.fingerprint

    @cached_property
    def fingerprint(self) -> str:
        """A few letters that change when the series, or the way they were divided, do."""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            digest.update(f"{name} {len(split)} ".encode() + split.lengths.tobytes())
            digest.update(np.concatenate(split.series()).tobytes())
        return digest.hexdigest()[:16]


def load_series(
    source: Any,
    *,
    column: str | None = None,
    max_length: int = 128,
    seed: int = 0,
    whole: bool = False,
) -> SeriesCorpus:
    """Read a corpus of series and divide it.

    Args:
        source: `curves`, a .npz, .npy or .parquet file, a folder with train, valid and test files, or series in memory.
        column: the column of a table that holds lists, where there are several.
        max_length: most steps of a series, its end included; longer ones are cut.
        seed: of the split, where none is given.
        whole: take a corpus without splits as it stands, all of it as `test`, in its order.

    Raises:
        CorpusError: when the corpus cannot be read or is too small to be split.
        ConfigError: for a length that leaves nothing.

    >>> corpus = load_series([np.arange(n) for n in range(2, 42)])
    >>> len(corpus.train), len(corpus.test), corpus.size
    (36, 2, 1)
    """
    if max_length < 2:
        raise ConfigError(f"max_length is {max_length}; it must be at least 2, a frame and the end")
    opened = open_series(source, column)
    notes, train = list(opened.notes), opened.tables["train"]
    parts = {name: (table, np.arange(len(table.lengths))) for name, table in opened.tables.items()}
    missing = [name for name in ("valid", "test") if name not in parts]
    if whole and len(parts) == 1:
        parts = {"test": parts["train"]}
    elif missing:
        for name, numbers in divided(len(train.lengths), missing, seed, opened.name).items():
            parts[name] = train, numbers
        notes.append(f"{' and '.join(missing)} drawn from train with seed {seed}")
    splits = {name: SeriesSplit(table, numbers, max_length) for name, (table, numbers) in parts.items()}
    for name, split in splits.items():
        if cut := int((~split.complete).sum()):
            notes.append(f"{cut:,} {name} series cut at {max_length} steps")
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in splits.items())
    notes.append(f"series: {sizes}; {train.values.shape[1]} channels")
    return SeriesCorpus(splits.get("train"), splits.get("valid"), splits.get("test"), opened.name, notes)


def divided(count: int, missing: list[str], seed: int, name: str) -> dict[str, np.ndarray]:
    """The numbers of the series of each missing split, and of what is left to train, each ascending."""
    if count <= len(missing):
        raise CorpusError(f"{name} has {count} series, too few to be split into train, valid and test")
    order, size = np.random.default_rng(seed).permutation(count), max(1, round(SHARE * count))
    parts = {split: order[i * size : (i + 1) * size] for i, split in enumerate(missing)}
    parts["train"] = order[len(missing) * size :]
    return {split: np.sort(numbers) for split, numbers in parts.items()}
