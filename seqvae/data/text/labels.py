"""Labels: the column of a source that a model is conditioned on, as numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from seqvae.data.text.containers import values
from seqvae.data.text.splits import Rows, Texts
from seqvae.data.text.tokenizer import sound
from seqvae.errors import ConfigError, CorpusError

Label = str | int  # as it stands in a table; true and false are ints
Names = Label | Iterable[Label] | None  # labels: one for all sentences, or one for each

MOST = 1_000  # different labels; a column with more is likelier one of names or numbers of the sentences
NAMED = 20  # labels that an error names, at most


@dataclass(frozen=True, eq=False)
class Labelled:
    """A column of labels of one data set.

    Attributes:
        column: its name.
        names: the labels there are, in sorted order: the number of a label is its place among them.
        numbers: (rows,) int64, of the label of each row of the data set; -1 where no split has the row.
    """

    column: str
    names: tuple[str, ...]
    numbers: np.ndarray


def label(texts: Texts, column: str, names: Sequence[str] | None = None) -> tuple[dict[str, int], dict[int, Labelled]]:
    """The labels of the sentences in `texts`, taken from the training split alone (from the whole where it is not cut).

    Args:
        texts: the sentences of each split.
        column: a column of texts, whole numbers, or true and false.
        names: the labels of a model, where there is one already; None for those that the training split has.

    Returns:
        how many training sentences each label has, in sorted order; and the labels of each data set, by its `id`.

    Raises:
        CorpusError: for a column that the source has not, a missing label, one that the training split has not, and
            too many or too few of them.
    """
    found = {split: _names(texts.name, split, rows, column) for split, rows in texts.splits.items()}
    counts = Counter(found["train" if "train" in found else "test"])
    known = tuple(sorted(counts) if names is None else names)
    if names is None and not 2 <= len(known) <= MOST:
        hint = "more are likelier names or numbers of the sentences" if len(known) > MOST else "one alone says nothing"
        raise CorpusError(
            f"the label column {column!r} has {len(known):,} different values: expected 2 to {MOST:,}, for {hint}"
        )
    place = {name: number for number, name in enumerate(known)}
    labelled: dict[int, Labelled] = {}
    for split, rows in texts.splits.items():
        if missing := set(found[split]) - place.keys():
            origin = "the training sentences have" if names is None else "the model was trained with"
            raise CorpusError(
                f"the {split} sentences of {texts.name} have the label {min(missing)!r} in column {column!r}, which is "
                f"none of those that {origin}: {listed(known)}; drop these rows, or merge rare labels"
            )
        dataset = rows.dataset
        if id(dataset) not in labelled:
            labelled[id(dataset)] = Labelled(column, known, np.full(len(dataset), -1, np.int64))
        labelled[id(dataset)].numbers[rows.numbers] = [place[name] for name in found[split]]
    return {name: counts[name] for name in known}, labelled


def numbered(given: Names, known: Sequence[str], column: str | None, count: int) -> list[int] | None:
    """The numbers of the labels of `count` sentences; None for a model without labels.

    Args:
        given: a label for all, or one for each in any container of one dimension, as texts, whole numbers, or true and
            false; None if none was given.
        known: those of the model, none for a model without labels.
        column: what to call them.
        count: of sentences.

    Raises:
        ConfigError: if they are needed and not given, given and not needed, not known, too many or too few.
        CorpusError: for what cannot be a label.

    >>> numbered("past", ["future", "past"], "tense", 2)
    [1, 1]
    >>> numbered(np.array([2, 1]), ["1", "2"], "stars", 2)
    [1, 0]
    """
    if not known:
        if given is None:
            return None
        raise ConfigError("a label was given, but the model was trained without --label-column: leave it out")
    if given is None:
        raise ConfigError(f"the model needs a label, the {column!r} of the sentence: expected one of: {listed(known)}")
    one = isinstance(given, str | bytes) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0
    found = [given] * count if one else values(given, "label", "labels")
    names = [named(name, column or "") for name in found]
    if len(names) != count:
        raise ConfigError(f"{len(names)} labels were given: expected one for each of {count} sentences, or one for all")
    place = {name: number for number, name in enumerate(known)}
    if "" in names:
        raise ConfigError(f"label {names.index('')} is missing: expected one of: {listed(known)}")
    if unknown := [name for name in names if name not in place]:
        raise ConfigError(f"unknown label {unknown[0]!r}: expected one of: {listed(known)}")
    return [place[name] for name in names]


def listed(names: Iterable[str]) -> str:
    """The names in one line, at most so many of them.

    >>> listed(["past", "present"])
    'past, present'
    """
    names = list(names)
    rest = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + rest


def _names(source: str, split: str, rows: Rows, column: str) -> list[str]:
    """The label of each sentence of a split, as a text in one line."""
    if column not in rows.dataset.column_names:
        raise CorpusError(
            f"{source} has no column {column!r} of labels; its columns are: {', '.join(rows.dataset.column_names)}"
        )
    values = rows.dataset.data.column(column).take(rows.numbers).to_pylist()
    names = [named(value, column) for value in values]
    if missing := names.count(""):
        first = next(islice(rows, names.index(""), None))
        raise CorpusError(
            f"{missing:,} of {len(names):,} {split} sentences have no label in column {column!r}, as {first[:80]!r}: "
            "expected one for each; drop these rows, or give them a label of their own"
        )
    return names


def named(value: Any, column: str) -> str:
    """A value of a column of labels as a text in one line, empty where there is none.

    >>> named(True, "asks"), named(" no  label", "asks"), named(None, "asks")
    ('True', 'no label', '')
    """
    if callable(getattr(value, "item", None)) and getattr(value, "ndim", 1) == 0:  # a number of NumPy or of torch
        value = value.item()
    if value is None:
        return ""
    if not isinstance(value, str | int):  # true and false are ints
        kind = type(value).__name__
        raise CorpusError(f"the label column {column!r} holds {kind}: expected texts, whole numbers, or true and false")
    return " ".join(sound(str(value)).split())
