"""Where series come from: the built-in curves, .npz, .npy and .parquet files, folders of such, arrays in memory.

Nothing is ever unpickled. The arrays of a .npz file are `values` (all frames below each other, (sum of lengths, F)) and
`lengths` (N,); or `x` (N, T, F), padded, and `lengths`. Any other array of N numbers or texts is a column of labels.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqvae.data.series import curves
from seqvae.data.text import containers
from seqvae.data.text.folders import SPLITS
from seqvae.errors import CorpusError, expand

if TYPE_CHECKING:
    import pyarrow


BUILT_IN = ("curves",)
ARRAYS = (".npz", ".npy")
FORMAT = "values (all frames below each other) and lengths, or x (series, frames, channels) and lengths"


@dataclass(frozen=True, eq=False)
class Table:
    """Series as they were given, checked.

    Attributes:
        values: (sum of lengths, F), all frames below each other, float32 or float64, finite.
        lengths: (N,) int64, frames of each series, 1 or more.
        columns: what else is known of each series: name -> N values.
    """

    values: np.ndarray
    lengths: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Source:
    """The tables of a corpus by split name, and facts worth telling."""

    name: str
    tables: dict[str, Table]
    notes: tuple[str, ...] = ()


def is_series(source: str | Path, column: str | None = None) -> bool:
    """Whether a corpus is one of series, by its name or by the columns of its table; false for what is not there."""
    path = expand(source)
    if str(source) in BUILT_IN or path.suffix.lower() in ARRAYS:
        return True
    if path.is_dir():
        return any(is_series(file, column) for file in _members(path).values())
    return path.suffix.lower() == ".parquet" and path.is_file() and _lists(_schema(path), column) is not None


def open_series(source: Any, column: str | None = None) -> Source:
    """Open a corpus of series.

    Args:
        source: `curves`, a file, a folder with train, valid and test files; or series in memory (see `in_memory`), or a
            dict of the splits train, valid and test.
        column: the column of a table that holds lists, where there are several.

    Raises:
        CorpusError: for what is missing, no numbers, ragged, empty, or not finite.
    """
    if not isinstance(source, str | os.PathLike):
        parts = containers.splits(containers.collect(source), SPLITS)
        given = Source("series", {split: in_memory(part, column) for split, part in parts.items()})
        return _alike(containers.describe(source), given)
    if str(source) in BUILT_IN:
        drawn = curves.draw(curves.SIZE)
        phase, lengths = drawn.factors["phase"], drawn.factors["length"]
        columns = drawn.factors | {"phase_sine": np.sin(phase), "phase_cosine": np.cos(phase)}
        note = f"the noise of the curves alone has an entropy of {curves.entropy():.2f} nats per series"
        return Source(str(source), {"train": _checked("curves", drawn.values, lengths, columns)}, (note,))
    path = expand(source)
    if not path.exists():
        raise CorpusError(f"no corpus {str(source)!r}: there is no such file or folder")
    if path.is_dir():
        files = _members(path)
        if "train" not in files:
            raise CorpusError(f"the folder {path} has no train file: name one train.npz (or .npy, .parquet)")
        tables = {split: _read(file, column) for split, file in files.items()}
        return _alike(str(path), Source(path.resolve().name, tables))
    return Source(path.name, {"train": _read(path, column)})


def _alike(shown: str, source: Source) -> Source:
    """The source, if all its splits have as many channels."""
    if len({table.values.shape[1] for table in source.tables.values()}) > 1:
        counts = ", ".join(f"{split} {table.values.shape[1]}" for split, table in source.tables.items())
        raise CorpusError(f"the splits of {shown} have different numbers of channels: {counts}")
    return source


def in_memory(series: Any, column: str | None = None) -> Table:
    """Return series that are handed over in memory as a table.

    Args:
        series: a list of arrays (frames, F), or (frames,) with one channel, or any container of them; one array
            (N, frames, F) or (N, frames); a dict of the arrays of a .npz file; or a table with a column of lists, as of
            a parquet file.
        column: of a table, the one that holds the lists.

    Raises:
        CorpusError: for what holds no series.
    """
    series = containers.collect(series)
    if isinstance(series, Mapping) and any(hasattr(series.get(name), "shape") for name in ("values", "x")):
        return _from_arrays(containers.describe(series), {name: np.asarray(array) for name, array in series.items()})
    if (found := containers.table(series)) is not None:
        return _of_table(containers.describe(series), found, column)
    items = list(series) if getattr(series, "ndim", 1) > 1 else containers.values(series, "series", "series")
    arrays = []
    for number, one in enumerate(items):
        try:
            arrays.append(np.asarray(one))
        except (TypeError, ValueError):
            raise CorpusError(
                f"series {number} is a list of frames of different lengths: expected (frames, channels)"
            ) from None
    if not arrays:
        raise CorpusError("the list of series is empty")
    arrays = [one[:, None] if one.ndim == 1 else one for one in arrays]
    for number, one in enumerate(arrays):
        if one.ndim != 2 or one.dtype.kind not in "fiu":
            kind = f"{one.dtype} of shape {one.shape}"
            raise CorpusError(f"series {number} is {kind}: expected numbers (frames, channels)")
        if one.shape[1] != arrays[0].shape[1]:
            given = f"{one.shape[1]} channels, the first one {arrays[0].shape[1]}"
            raise CorpusError(f"series {number} has {given}: all need the same number")
    return _checked("the list of series", np.concatenate(arrays), np.array([len(one) for one in arrays]), {})


def _members(folder: Path) -> dict[str, Path]:
    """The files of a folder that can hold series, by split."""
    kinds = (*ARRAYS, ".parquet")
    return {
        SPLITS[file.stem]: file
        for file in sorted(folder.iterdir())
        if file.stem in SPLITS and file.suffix.lower() in kinds
    }


def _read(path: Path, column: str | None) -> Table:
    if path.suffix.lower() == ".parquet":
        return _parquet(path, column)
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = dict(loaded) if hasattr(loaded, "files") else {"x": loaded}
    except (OSError, ValueError, EOFError, KeyError) as error:
        if "pickle" in str(error).lower() and "bject array" in str(error):
            raise CorpusError(f"{path} holds an array of objects, which is never unpickled: write {FORMAT}") from None
        raise CorpusError(f"{path} cannot be read as a file of NumPy arrays: write {FORMAT}") from None
    except Exception:  # a damaged zip file has errors of its own
        raise CorpusError(f"{path} cannot be read as a file of NumPy arrays: is it damaged or cut short?") from None
    return _from_arrays(str(path), arrays)


def _from_arrays(shown: str, arrays: dict[str, np.ndarray]) -> Table:
    if not {"values", "x"} & set(arrays):
        raise CorpusError(f"{shown} has the arrays {', '.join(arrays) or 'none'}: expected {FORMAT}")
    lengths = arrays.get("lengths")
    if "values" in arrays:
        values = arrays["values"]
        values = values[:, None] if values.ndim == 1 else values
        if lengths is None:
            raise CorpusError(f"{shown} has values but no lengths: write lengths too, the frames of each series")
    else:
        x = arrays["x"]
        x = x[..., None] if x.ndim == 2 else x
        if x.ndim != 3:
            raise CorpusError(f"{shown} holds an array of shape {x.shape}: expected (series, frames, channels)")
        lengths = np.full(len(x), x.shape[1]) if lengths is None else lengths
        if lengths.shape != x.shape[:1] or lengths.dtype.kind not in "iu" or (lengths > x.shape[1]).any():
            raise CorpusError(f"{shown}: lengths must be {len(x)} whole numbers of at most {x.shape[1]}, one a series")
        values = x[np.arange(x.shape[1]) < lengths[:, None]]
    columns = {n: a for n, a in arrays.items() if n not in ("x", "values", "lengths") and a.shape == lengths.shape}
    return _checked(shown, values, lengths, columns)


def _checked(shown: str, values: np.ndarray, lengths: np.ndarray, columns: dict[str, np.ndarray]) -> Table:
    """The table, if it can be trained on or scored."""
    if values.dtype.kind not in "fiu" or values.ndim != 2 or not values.shape[1]:
        raise CorpusError(f"{shown} holds {values.dtype} of shape {values.shape}: expected numbers (frames, channels)")
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or int(lengths.sum()) != len(values):
        raise CorpusError(f"{shown}: lengths must be whole numbers, one a series, that sum to {len(values)} frames")
    if not len(lengths):
        raise CorpusError(f"{shown} holds no series")
    if (lengths < 1).any():
        raise CorpusError(f"series {int((lengths < 1).argmax())} of {shown} is empty: leave it out")
    wrong = ~np.isfinite(values)
    if wrong.any():
        frame, channel = (int(place) for place in np.argwhere(wrong)[0])
        number = int(np.searchsorted(np.cumsum(lengths), frame, side="right"))
        within = frame - int(lengths[:number].sum())
        raise CorpusError(
            f"series {number} of {shown} has {values[frame, channel]} in frame {within}, channel {channel}: "
            "expected finite numbers; fill or leave out what is missing"
        )
    values = values if values.dtype == np.float32 else values.astype(np.float64)
    return Table(np.ascontiguousarray(values), lengths.astype(np.int64), columns)


def _schema(path: Path) -> "pyarrow.Schema":
    """The columns of a parquet file; none where it cannot be read."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException):
        return pyarrow.schema([])


def _lists(schema: "pyarrow.Schema", column: str | None) -> str | None:
    """The column of lists of a table: the one named, or the only one where no column `text` is text; else None."""
    import pyarrow

    types = pyarrow.types
    kinds = {f.name: f.type for f in schema}
    lists = [n for n, t in kinds.items() if types.is_list(t) or types.is_large_list(t) or types.is_fixed_size_list(t)]
    if column is not None:
        return column if column in lists else None
    texts = [n for n, t in kinds.items() if n == "text" and (types.is_string(t) or types.is_large_string(t))]
    return lists[0] if len(lists) == 1 and not texts else None


def _parquet(path: Path, column: str | None) -> Table:
    import pyarrow.parquet

    return _of_table(str(path), pyarrow.parquet.read_table(path), column)


def _of_table(shown: str, table: "pyarrow.Table", column: str | None) -> Table:
    """A column of lists of numbers, or of lists of frames, each a list of numbers."""
    import pyarrow
    import pyarrow.compute as pc

    chosen = _lists(table.schema, column)
    if chosen is None:
        raise CorpusError(
            f"{shown} has no such column of lists, or several: name the one of the series with --column; its columns "
            f"are: {', '.join(table.column_names)}"
        )
    series = table.column(chosen).combine_chunks()
    if series.null_count:
        raise CorpusError(f"column {chosen!r} of {shown} has {series.null_count} empty cells: leave those rows out")
    lengths, frames = pc.list_value_length(series).to_numpy(zero_copy_only=False), pc.list_flatten(series)
    width = 1
    if pyarrow.types.is_nested(frames.type):
        widths = pc.unique(pc.list_value_length(frames)).to_pylist()
        if len(widths) != 1 or widths[0] is None:
            counts = ", ".join(sorted(map(str, widths)))
            raise CorpusError(f"column {chosen!r} of {shown} has frames of {counts} channels: all need the same number")
        width, frames = widths[0], pc.list_flatten(frames)
    if not (pyarrow.types.is_floating(frames.type) or pyarrow.types.is_integer(frames.type)):
        raise CorpusError(f"column {chosen!r} of {shown} holds lists of {frames.type}: expected lists of numbers")
    values = frames.to_numpy(zero_copy_only=False).reshape(-1, width)
    others = [n for n in table.column_names if n != chosen and not pyarrow.types.is_nested(table.schema.field(n).type)]
    columns = {name: table.column(name).to_numpy() for name in others}
    return _checked(shown, values, lengths.astype(np.int64), columns)
