"""Which rows of a source are the training, validation and test sentences."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from seqvae.data.text.files import cache_folder, settle
from seqvae.data.text.opening import blame
from seqvae.data.text.sources import Source, open_source
from seqvae.data.text.tokenizer import normalize, sound
from seqvae.errors import CorpusError

if TYPE_CHECKING:
    from datasets import Dataset


SHARE = 0.05  # of the distinct sentences, for validation and again for test, where no file gives them
VERSION = 1  # of the keys that are kept: another way to make them must not find the old ones
_STEP = 10_000
_BLANK = np.uint64(0)


@dataclass(frozen=True, eq=False)
class Rows:
    """Sentences of one data set.

    Attributes:
        dataset: where they come from.
        column: the one that holds the text.
        numbers: (N,) of the rows, ascending.
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
    """The sentences of each split before any tokenizer, and the facts worth telling about how they came about."""

    name: str
    splits: dict[str, Rows]
    on_disk: bool
    notes: list[str] = field(default_factory=list)


def read(
    source: Any,
    *,
    column: str | None = None,
    label_column: str | None = None,
    seed: int = 0,
    lowercase: bool = False,
    whole: bool = False,
) -> Texts:
    """Open a corpus and divide it into train, valid and test.

    Splits that are given stay as they are, but for blank lines. Missing ones are drawn from train: duplicates are
    dropped, then 5 % of the sentences go to each, a pure function of the sentences in their order and of the seed.
    With labels, a sentence is kept once under each of its labels, all of them in one split.

    Args:
        source: `sotu`, `grammar`, `-`, `hub:NAME[:CONFIG]`, a file, a folder, or sentences in memory.
        column: the column that holds the text, for files and data sets that have several.
        label_column: the column that holds the labels, if any.
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
            pairs = _pairs(opened.datasets["train"], keys["train"], label_column)
            parts |= _carve(opened.name, keys["train"], pairs, numbers["train"], missing, seed, notes)
        _overlaps(keys, numbers, notes)
    order: list[str] = [split for split in ("train", "valid", "test") if split in parts and len(parts[split][1])]
    splits = {split: _rows(opened, keys, *parts[split]) for split in order}
    notes.append(", ".join(f"{len(rows):,} {split}" for split, rows in splits.items()) + " sentences")
    return Texts(opened.name, splits, opened.on_disk, notes)


def content(splits: Mapping[str, Rows]) -> str:
    """Return a hash of the texts of all splits in their order: equal for equal texts, wherever they stand."""
    digest = xxhash.xxh3_128()
    for split, rows in splits.items():
        digest.update(f"{split} {len(rows)} ".encode())
        digest.update(rows.keys[rows.numbers].data)
    return digest.hexdigest()


def _rows(source: Source, keys: dict[str, np.ndarray], origin: str, numbers: np.ndarray) -> Rows:
    return Rows(source.datasets[origin], source.columns[origin], numbers, keys[origin])


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
            return np.memmap(path, np.uint64, "r") if len(dataset) else np.empty(0, np.uint64)
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


def _pairs(dataset: "Dataset", keys: np.ndarray, label_column: str | None) -> np.ndarray:
    """(rows,) uint64, equal for equal sentences with equal labels."""
    import pyarrow

    if label_column is None or label_column not in dataset.column_names:
        return keys
    hashes: list[np.ndarray] = [np.empty(0, np.uint64)]
    for chunk in dataset.data.column(label_column).chunks:
        try:
            labels = chunk.dictionary_encode(null_encoding="encode")
        except pyarrow.ArrowException:  # lists and the like are no labels: they are refused by name when read as such
            return keys
        names = [sound(" ".join(str(value).split())) for value in labels.dictionary.to_pylist()]
        hashed = np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)
        hashes.append(hashed[labels.indices.to_numpy()])
    return keys ^ np.concatenate(hashes)


def _carve(
    name: str, keys: np.ndarray, pairs: np.ndarray, present: np.ndarray, missing: list[str], seed: int, notes: list[str]
) -> dict[str, tuple[str, np.ndarray]]:
    """Draw the missing splits from the distinct sentences of train, and give what is left to train."""
    distinct, kept = (present[np.sort(np.unique(of[present], return_index=True)[1])] for of in (keys, pairs))
    if dropped := len(present) - len(kept):
        notes.append(f"{dropped:,} duplicate {'sentence' if dropped == 1 else 'sentences'} dropped")
    if len(kept) > len(distinct):
        several = f"{len(kept) - len(distinct):,} more for sentences with several labels"
        notes.append(f"{len(distinct):,} different sentences and {several}, each with all its labels in one split")
    if len(distinct) <= len(missing):
        counted = "1 distinct sentence" if len(distinct) == 1 else f"{len(distinct)} distinct sentences"
        raise CorpusError(f"{name} has {counted}, too few to be split into train, valid and test")
    order = np.random.default_rng(seed).permutation(len(distinct))
    size = max(1, round(SHARE * len(distinct)))
    parts = {split: order[i * size : (i + 1) * size] for i, split in enumerate(missing)}
    parts["train"] = order[len(missing) * size :]
    notes.append(f"{' and '.join(missing)} drawn from train with seed {seed}")
    rows = {split: distinct[np.sort(parts[split])] for split in ("train", *missing)}
    if len(kept) > len(distinct):
        rows = {split: kept[np.isin(keys[kept], keys[found])] for split, found in rows.items()}
    return {split: ("train", found) for split, found in rows.items()}


def _overlaps(keys: dict[str, np.ndarray], numbers: dict[str, np.ndarray], notes: list[str]) -> None:
    """Tell how many sentences of the given splits also stand in the given train."""
    for split in ("valid", "test"):
        if split in keys:
            shared = int(np.isin(keys[split][numbers[split]], keys["train"]).sum())
            if shared:
                notes.append(f"{shared:,} of {len(numbers[split]):,} {split} sentences also stand in train")
