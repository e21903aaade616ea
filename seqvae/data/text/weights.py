"""Weights: the column of a source that says how much each training sentence counts."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import xxhash

from seqvae.data.containers import read_values
from seqvae.data.text.columns import check_encoding, take_values
from seqvae.data.text.files import set_fingerprint
from seqvae.data.text.sources import Source
from seqvae.data.text.splits import Rows, Texts
from seqvae.errors import ConfigError, CorpusError, list_names, shorten

WEIGHT = "weight"  # the column that weights in a list become
EXPECTED = "expected a finite number of 0 or more"


def choose_weights(given: Any, options: dict[str, Any]) -> Any:
    """Name the column of weights in the options of a training; return the weights that are no column yet, if any.

    Args:
        given: the name of a column, the weight of each training sentence, or None.
        options: those of a training, to which `weight_column` is added.

    Raises:
        ConfigError: where the options name a column too.

    >>> options = {}
    >>> choose_weights("importance", options), options
    (None, {'weight_column': 'importance'})
    """
    if given is None:
        return None
    if options.get("weight_column") is not None:
        raise ConfigError("weights and weight_column were both given: leave one of them out")
    options["weight_column"] = given if isinstance(given, str) else WEIGHT
    return None if isinstance(given, str) else given


def add_weights(source: Source, weights: Any) -> Source:
    """Return the source with a column of the weights of its training sentences.

    Args:
        source: the sentences.
        weights: a number for each row of train, in any container of one dimension.

    Raises:
        ConfigError: for weights that are too few or too many, or no numbers of 0 or more.
        CorpusError: for what is no list of weights.
    """
    dataset, values = source.datasets["train"], read_values(weights, WEIGHT, "weights")
    if len(values) != len(dataset):
        raise ConfigError(
            f"{len(values):,} weights were given for {len(dataset):,} training sentences: expected one each"
        )
    if WEIGHT in dataset.column_names:
        raise ConfigError(f"weights were given, but the table has a column {WEIGHT!r}: write weights={WEIGHT!r}")
    numbers = np.array([math.nan if isinstance(value, str) else to_number(value) for value in values])
    if len(bad := find_bad(numbers)):
        raise ConfigError(f"weight {bad[0]} is {shorten(values[bad[0]])}: {EXPECTED}")
    key = xxhash.xxh3_128_hexdigest(f"{dataset._fingerprint}|{WEIGHT}".encode() + numbers.tobytes())
    weighted = set_fingerprint(dataset.add_column(WEIGHT, numbers), key)
    return replace(source, datasets=source.datasets | {"train": weighted})


def read_weights(texts: Texts, column: str) -> np.ndarray | None:
    """Read the weight of each row that training sentences may come from, and note what they are.

    Args:
        texts: the sentences of each split; notes are added to its own.
        column: a column of numbers, or of texts that are numbers, as in a .csv file.

    Returns:
        (rows of the data set,) float64, 0 for blank rows; None without a training split.

    Raises:
        CorpusError: for a column that the source has not, for a weight that is missing or no number of 0 or more, and
            if all are 0.
    """
    if (rows := texts.splits.get("train")) is None:
        return None
    dataset = rows.dataset
    if column not in dataset.column_names:
        known = f"its columns are: {list_names(dataset.column_names)}"
        if dataset.column_names == [rows.column]:
            known = "it holds text alone, and a table is needed: a .csv, .tsv, .jsonl or .parquet file"
        raise CorpusError(f"{texts.name} has no column {column!r} of weights; {known}")
    check_encoding(texts.name, dataset, column)
    present = np.flatnonzero(rows.keys)
    values = take_values(dataset.data.column(column), present)
    weights = np.zeros(len(dataset))
    weights[present] = [to_number(value) for value in values]
    if len(bad := find_bad(weights[present])):
        value, text = values[bad[0]], dataset.data.column(rows.column)[int(present[bad[0]])].as_py()
        what = "missing" if value in (None, "") else shorten(value)
        raise CorpusError(f"the weight of {shorten(text)} is {what}, in column {column!r} of {texts.name}: {EXPECTED}")
    if not (used := weights[rows.numbers]).any():
        raise CorpusError(f"all {len(used):,} training sentences of {texts.name} have weight 0 in column {column!r}")
    texts.notes.extend(describe_weights(column, used, count_other_duplicates(rows, texts, weights)))
    return weights


def to_number(value: Any) -> float:
    """Return a value of a column of weights as a number, NaN for what is none.

    >>> to_number("0.5"), to_number(True), to_number("high")
    (0.5, 1.0, nan)
    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def find_bad(weights: np.ndarray) -> np.ndarray:
    """Return the places of weights that are below 0, infinite or NaN."""
    return np.flatnonzero(~((weights >= 0) & (weights < np.inf)))


def scale_weights(weights: np.ndarray) -> np.ndarray:
    """Return weights (N,), not all 0, divided by their mean, as float32; weights that are all equal become exactly 1.

    None but 0 becomes 0, so that the weights of a batch of positive ones have a mean to divide by.

    >>> scale_weights(np.array([2.0, 1.0, 0.0]))
    array([2., 1., 0.], dtype=float32)
    """
    scaled = weights / weights.max()  # the sum of weights may be too large for a number
    return np.where(weights > 0, np.maximum(scaled / scaled.mean(), np.finfo(np.float32).tiny), 0).astype(np.float32)


def count_other_duplicates(rows: Rows, texts: Texts, weights: np.ndarray) -> int:
    """Count the rows that were dropped as duplicates of a training sentence and have another weight than it."""
    used = [part.numbers for part in texts.splits.values() if part.dataset is rows.dataset]
    dropped = np.setdiff1d(np.flatnonzero(rows.keys), np.concatenate(used), assume_unique=True)
    pairs = rows.keys ^ weights.view(np.uint64)  # equal for equal sentences with equal weights
    same, alike = (np.isin(of[dropped], of[rows.numbers]) for of in (rows.keys, pairs))
    return int((same & ~alike).sum())


def describe_weights(column: str, weights: np.ndarray, others: int) -> list[str]:
    """Return notes on the weights of the training sentences, (N,).

    >>> describe_weights("importance", np.array([0.0, 1.0, 2.0]), 1)[0]
    "weights of column 'importance': 1 to 2, mean 1.5; 1 sentence of weight 0 left out of the training"
    """
    some = weights[weights > 0]
    note = f"weights of column {column!r}: {some.min():g} to {some.max():g}, mean {some.mean():.4g}"
    if out := len(weights) - len(some):
        note += f"; {out:,} {'sentence' if out == 1 else 'sentences'} of weight 0 left out of the training"
    notes = [note]
    if others:
        plural = "duplicate has" if others == 1 else "duplicates have"
        notes.append(f"{others:,} dropped {plural} another weight than the first of the same sentence, which counts")
    return notes
