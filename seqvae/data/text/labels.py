"""Labels: the column of a source that a model is conditioned on, as numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from seqvae.data.containers import read_values
from seqvae.data.text.columns import check_encoding, take_values
from seqvae.data.text.splits import Rows, Texts, format_value
from seqvae.errors import ConfigError, CorpusError, list_names

Label = str | int  # as tables hold it; true and false are ints
Labels = Label | Iterable[Label] | None  # one for all sentences, or one for each

MOST = 1_000  # different labels; a column with more is likelier one of names or numbers of the sentences


@dataclass(frozen=True, eq=False)
class LabelColumn:
    """A column of labels of one data set.

    Attributes:
        column: its name.
        names: the labels there are, in sorted order: the number of a label is its place among them.
        numbers: (rows,) int64, of the label of each row of the data set; -1 where no split has the row.
    """

    column: str
    names: tuple[str, ...]
    numbers: np.ndarray


def read_labels(
    texts: Texts, column: str, known: Sequence[str] | None = None
) -> tuple[dict[str, int], dict[int, LabelColumn]]:
    """Read the labels of all sentences; the training split alone decides which there are (`test` where all is that).

    Args:
        texts: the sentences of each split.
        column: a column of texts, whole numbers, or true and false.
        known: the labels of a model, where there is one already; None for those that the training split has.

    Returns:
        the number of training sentences of each label, in sorted order; and the labels of each data set, by its `id`.

    Raises:
        CorpusError: for a column that the source has not, a missing label, one that the training split has not, and
            too many or too few of them.
    """
    found = {split: _read_column(texts.name, split, rows, column) for split, rows in texts.splits.items()}
    counts = Counter(found["train" if "train" in found else "test"])
    names = tuple(sorted(counts) if known is None else known)
    if known is None and not 2 <= len(names) <= MOST:
        hint = "more are likelier names or numbers of the sentences" if len(names) > MOST else "one tells nothing apart"
        raise CorpusError(
            f"the label column {column!r} has {len(names):,} different values: expected 2 to {MOST:,}, for {hint}"
        )
    place = {name: number for number, name in enumerate(names)}
    columns: dict[int, LabelColumn] = {}
    for split, rows in texts.splits.items():
        if missing := set(found[split]) - place.keys():
            origin = "the training sentences have" if known is None else "the model was trained with"
            raise CorpusError(
                f"the {split} sentences of {texts.name} have the label {min(missing)!r} in column {column!r}, which is "
                f"none of those that {origin}: {list_names(names)}; drop these rows, or merge rare labels"
            )
        dataset = rows.dataset
        if id(dataset) not in columns:
            columns[id(dataset)] = LabelColumn(column, names, np.full(len(dataset), -1, np.int64))
        columns[id(dataset)].numbers[rows.numbers] = [place[name] for name in found[split]]
    return {name: counts[name] for name in names}, columns


def number_labels(given: Labels, known: Sequence[str], column: str | None, count: int) -> list[int] | None:
    """Return the numbers of the labels of `count` sentences; None for a model without labels.

    Args:
        given: a label for all, or one for each in any container of one dimension, as texts, whole numbers, or true and
            false; None if none was given.
        known: those of the model, none for a model without labels.
        column: what to call them.
        count: the number of sentences.

    Raises:
        ConfigError: if they are needed and not given, given and not needed, not known, too many or too few.
        CorpusError: for what cannot be a label.

    >>> number_labels("past", ["future", "past"], "tense", 2)
    [1, 1]
    >>> number_labels(np.array([2, 1]), ["1", "2"], "stars", 2)
    [1, 0]
    """
    if not known:
        if given is None:
            return None
        raise ConfigError("a label was given, but the model was trained without --label-column: leave it out")
    if given is None:
        raise ConfigError(
            f"the model needs a label, the {column!r} of the sentence: expected one of: {list_names(known)}"
        )
    one = isinstance(given, str | bytes) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0
    found = [given] * count if one else read_values(given, "label", "labels")
    names = [format_label(name, column or "") for name in found]
    if len(names) != count:
        raise ConfigError(f"labels given: {len(names)}, expected one for each of {count} sentences, or one for all")
    place = {name: number for number, name in enumerate(known)}
    if "" in names:
        raise ConfigError(f"label {names.index('')} is missing: expected one of: {list_names(known)}")
    if unknown := [name for name in names if name not in place]:
        raise ConfigError(f"unknown label {unknown[0]!r}: expected one of: {list_names(known)}")
    return [place[name] for name in names]


def _read_column(source: str, split: str, rows: Rows, column: str) -> list[str]:
    """Return the label of each sentence of a split, as a text in one line."""
    if column not in rows.dataset.column_names:
        raise CorpusError(
            f"{source} has no column {column!r} of labels; its columns are: {list_names(rows.dataset.column_names)}"
        )
    check_encoding(source, rows.dataset, column)
    values = take_values(rows.dataset.data.column(column), rows.numbers)
    names = [format_label(value, column) for value in values]
    if missing := names.count(""):
        first = next(islice(rows, names.index(""), None))
        raise CorpusError(
            f"{missing:,} of {len(names):,} {split} sentences have no label in column {column!r}, as {first[:80]!r}: "
            "expected one for each; drop these rows, or give them a label of their own"
        )
    return names


def format_label(value: Any, column: str) -> str:
    """Return a value of a column of labels as a text in one line, empty where there is none.

    >>> format_label(True, "asks"), format_label(" no  label", "asks"), format_label(None, "asks")
    ('True', 'no label', '')
    """
    if callable(getattr(value, "item", None)) and getattr(value, "ndim", 1) == 0:  # a number of NumPy or of torch
        value = value.item()
    if value is None:
        return ""
    if not isinstance(value, str | int):  # true and false are ints
        kind = type(value).__name__
        raise CorpusError(f"the label column {column!r} holds {kind}: expected texts, whole numbers, or true and false")
    return format_value(value)
