"""The column of a data set that holds its text: which one it is, whether it is UTF-8, and what to say of it."""

import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqvae.data import containers
from seqvae.data.text.files import find_format
from seqvae.errors import CorpusError, list_names, truncate

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

SHOWN = 80  # characters of the note that names the column taken, or a little more
KINDS = dict.fromkeys(("list", "largelist", "sequence"), "lists") | {
    "json": "values of several kinds",
    "null": "nothing",
}


def choose_column(shown: str, dataset: "Dataset", wanted: str | None, texts: list[str] | None = None) -> str:
    """Choose the column that holds the text: the one wanted, else `text`, else the only one of strings.

    Args:
        shown: what to call the data set in an error.
        dataset: the data set.
        wanted: the column that the user named, or its number from 1.
        texts: the columns that look like text, for a csv file, which is read as strings throughout.

    Raises:
        CorpusError: when there is no such column, or none can be chosen.
    """
    kinds = {name: _describe_kind(feature) for name, feature in dataset.features.items()}
    names = list(kinds)
    strings = [name for name in names if kinds[name] in ("string", "large_string")]
    if wanted is not None and wanted not in names and wanted.isdecimal() and 0 < int(wanted) <= len(names):
        wanted = names[int(wanted) - 1]
    if wanted is not None and wanted not in names:
        outer = wanted.partition(".")[0]
        hint = f"; a text within {outer!r} is not read: make it a column of its own" if outer in names else ""
        raise CorpusError(f"{shown} has no column {wanted!r}; its columns are: {list_names(names)}{hint}")
    if wanted is not None and "." in wanted and kinds[wanted] == KINDS["null"]:
        raise CorpusError(f"no object of {shown} has a text at {wanted!r}: write the names of its fields, with dots")
    if wanted is not None and wanted not in strings:
        hint = _suggest(dataset.features, wanted)
        raise CorpusError(f"the column {wanted!r} of {shown} holds {kinds[wanted]}, not text{hint}")
    likely = [name for name in strings if name in texts] if texts is not None else strings
    chosen = wanted or ("text" if "text" in strings else likely[0] if len(likely) == 1 else None)
    if not strings:
        held = list_names(f"{truncate(name)} ({kind})" for name, kind in kinds.items())
        raise CorpusError(f"{shown} has no column of text; its columns are: {held}{_suggest(dataset.features, *names)}")
    if chosen is None:
        raise CorpusError(f"{shown} needs --column, the one that holds the text; its columns are: {list_names(names)}")
    return chosen


def choose_columns(shown: str, loaded: dict[str, "Dataset"], column: str | None) -> dict[str, str]:
    """Choose the column of each split, all of UTF-8; arguments and errors as of `choose_column`."""
    chosen = {split: choose_column(shown, dataset, column) for split, dataset in loaded.items()}
    for split, name in chosen.items():
        check_encoding(shown, loaded[split], name)
    return chosen


def check_encoding(shown: str, dataset: "Dataset", column: str) -> None:
    """Raise a `CorpusError` where a column has text that is not UTF-8, whatever its file of Arrow or Parquet says."""
    import pyarrow

    for chunk in dataset.data.column(column).chunks:
        try:
            kinds = pyarrow.types
            if containers.is_text(chunk.type) or kinds.is_dictionary(chunk.type) or kinds.is_nested(chunk.type):
                chunk.validate(full=True)
        except pyarrow.ArrowInvalid as error:
            raise CorpusError(
                f"{shown} holds what is not UTF-8 in column {column!r} ({truncate(error)}): save it as UTF-8"
            ) from None


def take_values(column: "pyarrow.ChunkedArray", rows: np.ndarray) -> list[Any]:
    """Return the values of some rows (N,) in their order; pyarrow's `take` would copy the whole column."""
    starts = np.cumsum([0, *map(len, column.chunks)])
    chunks = np.searchsorted(starts, rows, side="right") - 1
    order = np.argsort(chunks, kind="stable")
    found: list[Any] = [None] * len(rows)
    used, counts = np.unique(chunks, return_counts=True)
    for chunk, end, count in zip(used.tolist(), np.cumsum(counts), counts, strict=True):
        places = order[end - count : end]
        values = column.chunk(chunk).take(rows[places] - starts[chunk]).to_pylist()
        for place, value in zip(places.tolist(), values, strict=True):
            found[place] = value
    return found


def _describe_kind(feature: Any) -> str:
    """Return what a column holds, in a word or two."""
    if isinstance(feature, dict):
        return "objects"
    kind = getattr(feature, "dtype", None) or type(feature).__name__.lower()
    return KINDS.get(kind, kind)


def _suggest(features: Any, *names: str) -> str:
    """Return what to write where the texts of these columns are within lists or objects."""
    kinds = {name: _describe_kind(features[name]) for name in names}
    read = [name for name in names if isinstance(features[name], dict) and "json" in features[name]]  # of .jsonl
    if read:
        return f"; write --column {read[0]}.NAME for the text called NAME within the objects"
    if "lists" in kinds.values():
        return "; join the words of each list with spaces into one text"
    return "; make the text within the objects a column of its own" if "objects" in kinds.values() else ""


def describe_choice(paths: list[Path], dataset: "Dataset", column: str) -> tuple[str, ...]:
    """Return notes on the column that was taken, where the file could have several."""
    if (kind := find_format(paths[0])) == "text":
        return ()
    taken = describe_column(paths[0].name, dataset, column)
    broken = _count_multiline(dataset, column) if kind == "csv" else 0
    return (taken, f"{broken:,} of its cells hold several lines, each read as one sentence") if broken else (taken,)


def describe_column(shown: str, dataset: "Dataset", column: str) -> str:
    """Name the column that was taken, with its first sentence, in one line of about 80 characters."""
    first = ""
    for text in chain.from_iterable(part.to_pylist() for part in dataset.data.column(column).slice(0, 1_000).chunks):
        if first := " ".join((text or "")[:SHOWN].split()):
            break
    taken = f"column {column!r} of {shown}: "
    width = max(20, SHOWN - len(taken))
    return taken + json.dumps(first if len(first) <= width else first[: width - 4] + " ...", ensure_ascii=False)


def _count_multiline(dataset: "Dataset", column: str) -> int:
    """Count the cells of a column that hold more than one line."""
    import pyarrow.compute

    parts = (
        pyarrow.compute.match_substring_regex(part, r"\S\s*[\n\r]\s*\S") for part in dataset.data.column(column).chunks
    )
    return sum(part.true_count for part in parts)
