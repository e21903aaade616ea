"""Sentences in whatever they are handed over in: lists, arrays, series, data frames, data sets, dicts of any of these.

A container is told by what it can do, so neither pandas nor polars is imported here, and either may be missing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from seqvae.errors import ConfigError, CorpusError

if TYPE_CHECKING:
    import pyarrow


def sentences(given: Any, column: str | None = None) -> list[Any]:
    """Return what a container of sentences holds, in its order; whether each item is text is not looked at.

    Args:
        given: an iterable of sentences, one that can be read once included; or a table, as for `table`.
        column: of a table, the one that holds the text if the table has it; else `text`, else the only one of text.

    Raises:
        ConfigError: for one string.
        CorpusError: for a set, several splits, a table without a column of text or with several, and whatever holds no
            sentences.

    >>> sentences({"text": ["a cat .", "a dog ."], "label": [0, 1]})
    ['a cat .', 'a dog .']
    """
    shown, given = describe(given), collect(given)
    if isinstance(given, Mapping) and given and all(map(_tabular, given.values())):
        raise CorpusError(f"{shown} holds tables under {_listed(given)}: hand over one of them")
    found = table(given)
    return values(given) if found is None else found.column(_text_column(found, shown, column)).to_pylist()


def collect(given: Any) -> Any:
    """Return the container, or the items of one that can be read once as a list."""
    return list(given) if isinstance(given, Iterator) and not _tabular(given) else given


def values(given: Any, one: str = "sentence", many: str = "sentences") -> list[Any]:
    """Return the items of a container of one dimension, in its order.

    Args:
        given: the container.
        one: what an error calls an item.
        many: what it calls several.

    Raises:
        ConfigError: for one string, or bytes.
        CorpusError: for a set, a table, an array of more dimensions, and what cannot be iterated.
    """
    shown, wanted = describe(given), f"expected a list of {many}, such as [{one}]"
    if isinstance(given, str | bytes | bytearray):
        kind = "string" if isinstance(given, str) else type(given).__name__
        raise ConfigError(f"one {kind} was given where a list of {many} is expected: write [{one}]")
    if isinstance(given, set | frozenset):
        raise CorpusError(f"{shown} has no order, so nothing could be told apart: write sorted(...) of it")
    if _tabular(given):
        raise CorpusError(f"{shown} has columns: {wanted}; hand over one of them")
    shape = getattr(given, "shape", None)
    if isinstance(shape, tuple) and len(shape) != 1:
        if len(shape) != 2 or shape[1] != 1:
            raise CorpusError(f"{shown} has the shape {tuple(shape)}: {wanted}")
        given = given[:, 0]
    for method in ("to_pylist", "tolist", "to_list"):
        if callable(read := getattr(given, method, None)):
            return list(read())
    if not isinstance(given, Iterable):
        raise CorpusError(f"{shown} holds no {many}: {wanted}")
    return list(given)


def splits(given: Any, known: Mapping[str, str]) -> dict[str, Any]:
    """Return the containers of the splits; what is no dict of splits is one of `train`.

    A dict is one of splits if its keys are names of splits, one of columns if none is; where both occur, it is one of
    splits if its values are tables, and those of other names are left out, as they are of the data sets of the hub.

    Args:
        given: a container.
        known: the names of splits, each with the split that it means.

    Raises:
        CorpusError: for a dict that could be either, one without a train split, or with two of the same.

    >>> splits({"train": ["a b", "c d"], "dev": ["e f"]}, {"train": "train", "dev": "valid"})
    {'train': ['a b', 'c d'], 'valid': ['e f']}
    """
    if not isinstance(given, Mapping):
        return {"train": given}
    shown, among = describe(given), [name for name in given if name in known]
    tables = bool(given) and all(map(_tabular, given.values()))
    if not among and not tables:
        return {"train": given}
    if len(among) < len(given) and not tables:
        raise CorpusError(
            f"{shown} has the keys {_listed(given)}: expected the names of splits ({', '.join(known)}) or those of "
            "columns, not both"
        )
    found: dict[str, Any] = {}
    for name in among:
        if known[name] in found:
            raise CorpusError(f"{shown} has two {known[name]} splits: leave one of {', '.join(among)} out")
        found[known[name]] = given[name]
    if "train" not in found:
        raise CorpusError(f"{shown} has no train split; it has: {_listed(given)}")
    return found


def table(given: Any) -> "pyarrow.Table | None":
    """Return a table as one of Arrow, without the index of a data frame; None for what is no table.

    Args:
        given: a data frame of pandas or polars, a table of Arrow, a data set of `datasets` (one that is streamed is
            read to its end), a dict of columns, a list of dicts, or whatever has columns and hands them over by the
            interface of Arrow.

    Raises:
        CorpusError: for columns that are of different lengths, of mixed types, or cannot be read.
    """
    import pyarrow

    shown = describe(given)
    if not _tabular(given):
        if not isinstance(given, list | tuple) or not given or not isinstance(given[0], Mapping):
            return None
        return _of_rows(given, shown)
    try:
        if isinstance(given, Mapping):
            return _plain(_of_columns(given, shown))
        if _home(given) == "pandas":
            return _plain(pyarrow.Table.from_pandas(given, preserve_index=False))
        if _home(given) == "polars" and hasattr(given, "collect"):  # a LazyFrame
            given = given.collect()
        if _home(given) == "datasets":
            if not hasattr(given, "__len__"):  # it is streamed
                return _of_rows(list(given), shown)
            return _plain(given.with_format("arrow")[:])
        if isinstance(given, pyarrow.RecordBatch):
            given = pyarrow.Table.from_batches([given])
        return _plain(given if isinstance(given, pyarrow.Table) else pyarrow.table(given))
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorpusError(
            f"{shown} cannot be read as a table ({reason}): expected columns of one length, each of texts or of numbers"
        ) from None


def _text_column(found: "pyarrow.Table", shown: str, wanted: str | None) -> str:
    """Return the name of the column that holds the text: the one wanted if it is there, `text`, the only one of text.

    Raises:
        CorpusError: where there is none, or none can be chosen.
    """
    import pyarrow

    types = {field.name: field.type for field in found.schema}
    texts = [name for name, kind in types.items() if pyarrow.types.is_large_string(kind)]
    chosen = next((name for name in (wanted, "text") if name in texts), texts[0] if len(texts) == 1 else None)
    if not texts:
        held = ", ".join(f"{name} ({kind})" for name, kind in types.items())
        raise CorpusError(f"{shown} has no column of text; its columns are: {held or 'none'}")
    if chosen is None:
        raise CorpusError(
            f"{shown} has several columns of text, {', '.join(texts)}: hand over the one that is meant, as "
            f"table[{texts[0]!r}]"
        )
    return chosen


def describe(given: Any) -> str:
    """Return what to call a container in an error.

    >>> describe((1, 2))
    'the tuple'
    """
    return f"the {type(given).__name__}"


def _tabular(given: Any) -> bool:
    """Whether the container has columns with names."""
    return isinstance(given, Mapping) or any(
        hasattr(type(given), name) for name in ("columns", "column_names", "read_all")
    )


def _home(given: Any) -> str:
    """The package that the container comes from, for a class derived from one of its own too."""
    homes = {kind.__module__.partition(".")[0] for kind in type(given).__mro__}
    return next((name for name in ("pandas", "polars", "datasets") if name in homes), "")


def _of_columns(given: Mapping[str, Any], shown: str) -> "pyarrow.Table":
    import pyarrow

    columns = {}
    for name, column in given.items():
        if not isinstance(name, str) or isinstance(column, str | bytes | Mapping) or not isinstance(column, Iterable):
            raise CorpusError(
                f"{shown} holds {type(column).__name__} under {name!r}: expected a list of values for each column, or "
                "of sentences for each split (train, valid, test)"
            )
        flat = len(getattr(column, "shape", "1")) == 1  # else a list of numbers for each row
        columns[name] = pyarrow.array(values(column) if flat else list(column), from_pandas=True)
    return pyarrow.table(columns)


def _of_rows(rows: Any, shown: str) -> "pyarrow.Table":
    """A table of dicts, a row each; what a row has not is missing in it."""
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise CorpusError(f"item {number} of {shown} is {type(row).__name__}, the first one a dict: expected dicts")
    names = dict.fromkeys(name for row in rows for name in row)
    return table({name: [row.get(name) for row in rows] for name in names})  # type: ignore[return-value]


def _plain(found: "pyarrow.Table") -> "pyarrow.Table":
    """The table with all texts in one type, categories as what they stand for, and nothing beside the columns."""
    import pyarrow

    if len(set(found.column_names)) < found.num_columns:
        raise ValueError(f"two of the columns {_listed(found.column_names)} have one name")
    columns = [[_plain_chunk(chunk) for chunk in column.chunks] for column in found.columns]
    kinds = [_plain_chunk(pyarrow.nulls(0, field.type)).type for field in found.schema]
    pairs = zip(columns, kinds, strict=True)
    return pyarrow.table([pyarrow.chunked_array(*pair) for pair in pairs], names=found.column_names)


def _plain_chunk(chunk: "pyarrow.Array") -> "pyarrow.Array":
    import pyarrow

    types = pyarrow.types
    if types.is_dictionary(chunk.type):
        return _plain_chunk(chunk.dictionary).take(chunk.indices)
    text = types.is_string(chunk.type) or types.is_string_view(chunk.type)
    return chunk.cast(pyarrow.large_string()) if text else chunk


def _listed(given: Iterable[Any]) -> str:
    names = [str(name) for name in given]
    return ", ".join(names[:9]) + (" ..." if len(names) > 9 else "")
