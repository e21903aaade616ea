"""Containers: the lists, arrays, data frames, data sets and dicts of these in which texts and series are given.

A container is recognized by its methods, so neither pandas nor polars is imported here, and either may be missing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from seqvae.data.corpus import SPLITS
from seqvae.errors import ConfigError, CorpusError, list_names

if TYPE_CHECKING:
    import pyarrow


def read_sentences(given: Any, column: str | None = None) -> list[Any]:
    """Return the sentences of a container, in its order; whether each one is text is not checked.

    Args:
        given: an iterable of sentences, an iterator included; or a table, as for `read_table`.
        column: of a table, the one that holds the text if the table has it; else `text`, else the only one of text.

    Raises:
        ConfigError: for one string.
        CorpusError: for a set, several splits, a table without a column of text or with several, and whatever holds no
            sentences.

    >>> read_sentences({"text": ["a cat .", "a dog ."], "label": [0, 1]})
    ['a cat .', 'a dog .']
    """
    shown, given = describe(given), collect(given)
    if isinstance(given, Mapping) and given and all(map(_has_columns, given.values())):
        raise CorpusError(f"{shown} holds tables under {list_names(given)}: give one of them")
    table = read_table(given)
    return read_values(given) if table is None else table.column(_choose_column(table, shown, column)).to_pylist()


def collect(given: Any) -> Any:
    """Return the container, or the items of an iterator as a list, so that they can be read again."""
    return list(given) if isinstance(given, Iterator) and not _has_columns(given) else given


def read_values(given: Any, one: str = "sentence", many: str = "sentences") -> list[Any]:
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
        raise CorpusError(f"{shown} has no order, so its items cannot be told apart: write sorted(...) of it")
    if _has_columns(given):
        raise CorpusError(f"{shown} has columns: {wanted}; give one of them")
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


def find_splits(given: Any) -> dict[str, Any]:
    """Return the container of each split; what is no dict of splits is that of `train`.

    A dict holds splits if all its keys are names of splits, and columns if none is; where some are, it holds splits if
    its values are tables, of which those with other names are left out, as they are of data sets of the hub.

    Raises:
        CorpusError: for a dict that could be either, one without a train split, or with two of the same.

    >>> find_splits({"train": ["a b", "c d"], "dev": ["e f"]})
    {'train': ['a b', 'c d'], 'valid': ['e f']}
    """
    if not isinstance(given, Mapping):
        return {"train": given}
    shown, among = describe(given), [name for name in given if name in SPLITS]
    tables = bool(given) and all(map(_has_columns, given.values()))
    if not among and not tables:
        return {"train": given}
    if len(among) < len(given) and not tables:
        raise CorpusError(
            f"{shown} has the keys {list_names(given)}: expected the names of splits ({', '.join(SPLITS)}) or those of "
            "columns, not both"
        )
    found: dict[str, Any] = {}
    for name in among:
        if SPLITS[name] in found:
            raise CorpusError(f"{shown} has two {SPLITS[name]} splits: leave one of {', '.join(among)} out")
        found[SPLITS[name]] = given[name]
    if "train" not in found:
        raise CorpusError(f"{shown} has no train split; it has: {list_names(given)}")
    return found


def read_table(given: Any) -> "pyarrow.Table | None":
    """Convert a table to Arrow, without the index of a data frame; None for what is no table.

    Args:
        given: a data frame of pandas or polars, a table of Arrow, a data set of `datasets` (a streamed one
            is read to its end), a dict of columns, a list of dicts, or whatever has columns and the interface of Arrow.

    Raises:
        CorpusError: for columns that are of different lengths, of mixed types, or cannot be read.
    """
    import pyarrow

    shown = describe(given)
    if not _has_columns(given):
        if not isinstance(given, list | tuple) or not given or not isinstance(given[0], Mapping):
            return None
        return _convert_rows(given, shown)
    try:
        if isinstance(given, Mapping):
            return _simplify(_convert_columns(given, shown))
        if _find_library(given) == "pandas":
            return _simplify(pyarrow.Table.from_pandas(given, preserve_index=False))
        if _find_library(given) == "polars" and hasattr(given, "collect"):  # a LazyFrame
            given = given.collect()
        if _find_library(given) == "datasets":
            if not hasattr(given, "__len__"):  # it is streamed
                return _convert_rows(list(given), shown)
            return _simplify(given.with_format("arrow")[:])
        if isinstance(given, pyarrow.RecordBatch):
            given = pyarrow.Table.from_batches([given])
        return _simplify(given if isinstance(given, pyarrow.Table) else pyarrow.table(given))
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorpusError(
            f"{shown} cannot be read as a table ({reason}): expected columns of one length, each of texts or of numbers"
        ) from None


def _choose_column(table: "pyarrow.Table", shown: str, wanted: str | None) -> str:
    """Return the name of the column of text: the one wanted if it is there, else `text`, else the only one of text.

    Raises:
        CorpusError: where there is none, or none can be chosen.
    """
    import pyarrow

    types = {field.name: field.type for field in table.schema}
    texts = [name for name, kind in types.items() if pyarrow.types.is_large_string(kind)]
    chosen = next((name for name in (wanted, "text") if name in texts), texts[0] if len(texts) == 1 else None)
    if not texts:
        held = ", ".join(f"{name} ({kind})" for name, kind in types.items())
        raise CorpusError(f"{shown} has no column of text; its columns are: {held or 'none'}")
    if chosen is None:
        raise CorpusError(
            f"{shown} has several columns of text, {', '.join(texts)}: give the one that is meant, as "
            f"table[{texts[0]!r}]"
        )
    return chosen


def describe(given: Any) -> str:
    """Return what to call a container in an error.

    >>> describe((1, 2))
    'the tuple'
    """
    return f"the {type(given).__name__}"


def is_text(kind: "pyarrow.DataType") -> bool:
    """Return whether a type of Arrow is one of text."""
    import pyarrow

    types = pyarrow.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _has_columns(given: Any) -> bool:
    """Return whether the container has columns with names."""
    return isinstance(given, Mapping) or any(
        hasattr(type(given), name) for name in ("columns", "column_names", "read_all")
    )


def _find_library(given: Any) -> str:
    """Return the package that the class of the container, or one that it is derived from, comes from."""
    packages = {kind.__module__.partition(".")[0] for kind in type(given).__mro__}
    return next((name for name in ("pandas", "polars", "datasets") if name in packages), "")


def _convert_columns(given: Mapping[str, Any], shown: str) -> "pyarrow.Table":
    import pyarrow

    columns = {}
    for name, column in given.items():
        if not isinstance(name, str) or isinstance(column, str | bytes | Mapping) or not isinstance(column, Iterable):
            raise CorpusError(
                f"{shown} holds {type(column).__name__} under {name!r}: expected a list of values for each column, or "
                "of sentences for each split (train, valid, test)"
            )
        flat = len(getattr(column, "shape", "1")) == 1  # else a list of numbers for each row
        columns[name] = pyarrow.array(read_values(column) if flat else list(column), from_pandas=True)
    return pyarrow.table(columns)


def _convert_rows(rows: Any, shown: str) -> "pyarrow.Table":
    """Convert dicts, a row each; a key that a row has not is a missing value."""
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise CorpusError(f"item {number} of {shown} is {type(row).__name__}, the first one a dict: expected dicts")
    names = dict.fromkeys(name for row in rows for name in row)
    return read_table({name: [row.get(name) for row in rows] for name in names})  # type: ignore[return-value]


def _simplify(table: "pyarrow.Table") -> "pyarrow.Table":
    """Convert all texts to one type, and categories to their values; drop metadata."""
    import pyarrow

    if len(set(table.column_names)) < table.num_columns:
        raise ValueError(f"two of the columns {list_names(table.column_names)} have one name")
    columns = [[_simplify_chunk(chunk) for chunk in column.chunks] for column in table.columns]
    kinds = [_simplify_chunk(pyarrow.nulls(0, field.type)).type for field in table.schema]
    pairs = zip(columns, kinds, strict=True)
    return pyarrow.table([pyarrow.chunked_array(*pair) for pair in pairs], names=table.column_names)


def _simplify_chunk(chunk: "pyarrow.Array") -> "pyarrow.Array":
    import pyarrow

    if pyarrow.types.is_dictionary(chunk.type):
        return _simplify_chunk(chunk.dictionary).take(chunk.indices)
    return chunk.cast(pyarrow.large_string()) if is_text(chunk.type) else chunk
