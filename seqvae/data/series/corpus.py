"""SeriesCorpus: real-valued series in three splits, to be trained on and scored as a corpus of sentences is."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import xxhash

from seqvae.data import corpus as base
from seqvae.data.batch import Batch
from seqvae.data.corpus import Indices
from seqvae.data.series.sources import Source, Table, open_series
from seqvae.errors import ConfigError, list_names


@dataclass(frozen=True, eq=False)
class SeriesSplit(base.Split):
    """N series; `split[3]` is the fourth one, (frames, F).

    Attributes:
        table: where they come from.
        numbers: (N,) their rows in that table.
        max_length: series of more steps, the end included, are truncated and then have no end.
    """

    table: Table
    numbers: np.ndarray
    max_length: int

    unit: ClassVar[str] = "series"
    units: ClassVar[str] = "series"

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.series([range(len(self))[index]])[0]

    def series(self, indices: Indices | None = None) -> list[np.ndarray]:
        """Return some series, or all, each (frames, F), truncated as they are scored."""
        return self._slice(indices, self.max_length)

    def batch(self, indices: Indices) -> Batch:
        """Return some series as a batch, in the given order."""
        return Batch.of_frames(self._slice(indices), longest=self.max_length)

    def select(self, indices: Indices) -> Self:
        """Return a split of some of the series, in the given order."""
        return replace(self, numbers=self._find_rows(indices))

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int32, the steps of each series: its frames and its end, as far as it is not truncated."""
        return np.minimum(self.table.lengths[self.numbers] + 1, self.max_length).astype(np.int32)

    @cached_property
    def complete(self) -> np.ndarray:
        """(N,) bool, false where a series was truncated and so has no end."""
        return self.table.lengths[self.numbers] < self.max_length

    @cached_property
    def keys(self) -> np.ndarray:
        """(N,) uint64, equal for series that are equal as they are scored."""
        series = (np.ascontiguousarray(one, np.float64) for one in self.series())
        return np.array([xxhash.xxh3_64_intdigest(one.data) for one in series], np.uint64)

    @property
    def labels(self) -> None:
        """None: models of series are not conditioned on labels."""
        return None

    @property
    def frames(self) -> int:
        """The number of frames that are scored, in all series."""
        return int(np.minimum(self.table.lengths[self.numbers], self.max_length).sum())

    @property
    def channels(self) -> int:
        """F."""
        return self.table.values.shape[1]

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the source."""
        return list(self.table.columns)

    def column(self, name: str, indices: Indices | None = None) -> list[Any]:
        """Return the values of a column of the source, as labels or factors, for some series or for all.

        Raises:
            ConfigError: for a column that the source has not.
        """
        if name not in self.table.columns:
            raise ConfigError(
                f"the corpus has no column {name!r}; its columns are: {list_names(self.columns) or 'none'}"
            )
        return self.table.columns[name][self._find_rows(indices)].tolist()

    def _find_rows(self, indices: Indices | None) -> np.ndarray:
        """Return the rows of the table that some series, or all, come from."""
        return self.numbers if indices is None else self.numbers[np.asarray(indices, np.int64)]

    def _slice(self, indices: Indices | None, most: int | None = None) -> list[np.ndarray]:
        """Return the frames of some series, or of all, at most `most` of each."""
        rows = self._find_rows(indices)
        lengths = self.table.lengths[rows] if most is None else np.minimum(self.table.lengths[rows], most)
        pairs = zip(self._starts[rows].tolist(), lengths.tolist(), strict=True)
        return [self.table.values[start : start + length] for start, length in pairs]

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.table.lengths)])


@dataclass(frozen=True, eq=False, kw_only=True)
class SeriesCorpus(base.Corpus[SeriesSplit]):
    """A corpus of real-valued series."""

    tokenizer: None = None

    unit: ClassVar[str] = "series"
    units: ClassVar[str] = "series"
    observation: ClassVar[str] = "frames"

    @property
    def size(self) -> int:
        """F, the channels of a frame: what a model is built for."""
        return next(iter(self.splits.values())).channels

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, (F,) each, of the channels over the frames of train; 1 for a constant one."""
        assert self.train is not None
        frames = np.concatenate(self.train.series()).astype(np.float64)
        std = frames.std(axis=0)
        return frames.mean(axis=0), np.where(std > 0, std, 1.0)

    @property
    def content(self) -> str:
        """The fingerprint, as there is no tokenizer."""
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
        max_length: most steps of a series, its end included; longer ones are truncated.
        seed: of the splits that are drawn, where the source has none.
        whole: take a corpus without splits as it is, all of it as `test`, in its order.

    Raises:
        CorpusError: when the corpus cannot be read or is too small to be split.
        ConfigError: for a length that leaves no frame.

    >>> corpus = load_series([np.arange(n) for n in range(2, 42)])
    >>> len(corpus.train), len(corpus.test), corpus.size
    (36, 2, 1)
    """
    base.check_max_length(max_length, "frame")
    opened = open_series(source, column)
    notes = list(opened.notes)
    if whole and len(opened.tables) == 1:
        rows = {"test": (opened.tables["train"], np.arange(len(opened.tables["train"].lengths)))}
    else:
        rows = _find_rows(opened, seed, notes)
    splits = {name: SeriesSplit(table, numbers, max_length) for name, (table, numbers) in rows.items()}
    for name, split in splits.items():
        notes += base.describe_truncated(name, split, max_length, "steps")
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in splits.items())
    notes.append(f"series: {sizes}; {opened.tables['train'].values.shape[1]} channels")
    train, valid, test = (splits.get(name) for name in ("train", "valid", "test"))
    return SeriesCorpus(train=train, valid=valid, test=test, name=opened.name, notes=notes)


def _find_rows(source: Source, seed: int, notes: list[str]) -> dict[str, tuple[Table, np.ndarray]]:
    """Return the table and the rows of each split; those that the source has not are drawn from train."""
    rows = {name: (table, np.arange(len(table.lengths))) for name, table in source.tables.items()}
    if missing := [name for name in ("valid", "test") if name not in rows]:
        train = source.tables["train"]
        base.check_divisible(source.name, len(train.lengths), missing, "series", "series")
        rows |= {name: (train, numbers) for name, numbers in base.divide(len(train.lengths), missing, seed).items()}
        notes.append(f"{' and '.join(missing)} drawn from train with seed {seed}")
    return rows
