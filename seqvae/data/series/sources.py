"""Sources of series: the built-in curves, .npz, .npy and .parquet files, folders of such, arrays in memory.

Nothing is ever unpickled. The arrays of a .npz file are `values` (all frames below each other, (sum of lengths, F)) and
`lengths` (N,); or `x` (N, T, F), padded, and `lengths`. Any other array of N numbers or texts is a column of labels.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqvae.data import containers
from seqvae.data.corpus import BUILT_IN_SERIES, SPLITS
from seqvae.data.series import curves
from seqvae.errors import CorpusError, expand, list_names, truncate

if TYPE_CHECKING:
    import pyarrow


ARRAYS = (".npz", ".npy")
NUMBERS = "fiu"  # kinds of dtypes of NumPy
FORMAT = "values (all frames below each other) and lengths, or x (series, frames, channels) and lengths"
TABLE = "; of a table with a series a row: numpy.save('series.npy', numpy.loadtxt('{}', delimiter=',', skiprows=1))"


@dataclass(frozen=True, eq=False)
class Table:
    """Series as they were given, once checked.

    Attributes:
        values: (sum of lengths, F), all frames below each other, float32 or float64, finite.
        lengths: (N,) int64, frames of each series, 1 or more.
        columns: what else is known of each series, such as labels or factors: name -> N values.
    """

    values: np.ndarray
    lengths: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Source:
    """The table of each split of a corpus, and notes on where they come from."""

    name: str
    tables: dict[str, Table]
    notes: tuple[str, ...] = ()


def is_series(source: str | Path, column: str | None = None) -> bool:
    """Return whether a corpus is one of series, by its name or the columns of its table; false for a missing one."""
    path = expand(source)
    if str(source) in BUILT_IN_SERIES or path.suffix.lower() in ARRAYS:
        return True
    if path.is_dir():
        return any(is_series(file, column) for file in _find_files(path).values())
    return (
        path.suffix.lower() == ".parquet" and path.is_file() and _choose_column(_read_schema(path), column) is not None
    )


def open_series(source: Any, column: str | None = None) -> Source:
    """Open a corpus of series.

    Args:
        source: `curves`, a file, a folder with train, valid and test files; or series in memory (see `read_series`), or
            a dict of the splits train, valid and test.
        column: the column of a table that holds lists, where there are several.

    Raises:
        CorpusError: for what is missing, no numbers, ragged, empty, or not finite.
    """
    if not isinstance(source, str | os.PathLike):
        parts = containers.find_splits(containers.collect(source))
        tables = {split: read_series(part, column) for split, part in parts.items()}
        return Source("series", _check_channels(containers.describe(source), tables))
    if str(source) in BUILT_IN_SERIES:
        return _sample_curves(str(source))
    path = expand(source)
    if not path.exists():
        raise CorpusError(f"no corpus {str(source)!r}: there is no such file or folder")
    if not path.is_dir():
        return Source(path.name, {"train": _read_file(path, column)})
    files = _find_files(path)
    if "train" not in files:
        raise CorpusError(f"the folder {path} has no train file: name one train.npz (or .npy, .parquet)")
    tables = {split: _read_file(file, column) for split, file in files.items()}
    return Source(path.resolve().name, _check_channels(str(path), tables))


def _sample_curves(name: str) -> Source:
    samples = curves.sample(curves.SIZE)
    phase, lengths = samples.factors["phase"], samples.factors["length"]
    columns = samples.factors | {"phase_sine": np.sin(phase), "phase_cosine": np.cos(phase)}
    note = f"the noise of the curves alone has an entropy of {curves.entropy():.2f} nats per series"
    return Source(name, {"train": _check(name, samples.values, lengths, columns)}, (note,))


def _check_channels(shown: str, tables: dict[str, Table]) -> dict[str, Table]:
    """Return the tables of the splits, or raise a `CorpusError` if their series have different numbers of channels."""
    if len({table.values.shape[1] for table in tables.values()}) > 1:
        counts = ", ".join(f"{split} {table.values.shape[1]}" for split, table in tables.items())
        raise CorpusError(f"the splits of {shown} have different numbers of channels: {counts}")
    return tables


def read_series(series: Any, column: str | None = None) -> Table:
    """Return series in memory as a table.

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
        return _read_arrays(containers.describe(series), {name: np.asarray(array) for name, array in series.items()})
    if (table := containers.read_table(series)) is not None:
        return _read_column(containers.describe(series), table, column)
    items = list(series) if getattr(series, "ndim", 1) > 1 else containers.read_values(series, "series", "series")
    if not items:
        raise CorpusError("the list of series is empty")
    arrays = [_convert_array(number, item) for number, item in enumerate(items)]
    for number, array in enumerate(arrays):
        if array.shape[1] != arrays[0].shape[1]:
            given = f"{array.shape[1]} channels, the first one {arrays[0].shape[1]}"
            raise CorpusError(f"series {number} has {given}: all need the same number")
    return _check("the list of series", np.concatenate(arrays), np.array([len(array) for array in arrays]), {})


def _convert_array(number: int, item: Any) -> np.ndarray:
    """Return one of a list of series as (frames, F)."""
    try:
        array = np.asarray(item)
    except (TypeError, ValueError):
        raise CorpusError(
            f"series {number} is a list of frames of different lengths: expected (frames, channels)"
        ) from None
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.dtype.kind not in NUMBERS:
        raise CorpusError(
            f"series {number} is {array.dtype} of shape {array.shape}: expected numbers (frames, channels)"
        )
    return array


def _find_files(folder: Path) -> dict[str, Path]:
    """Return the files of a folder that can hold series, by split."""
    kinds = (*ARRAYS, ".parquet")
    return {
        SPLITS[file.stem]: file
        for file in sorted(folder.iterdir())
        if file.stem in SPLITS and file.suffix.lower() in kinds
    }


def _read_file(path: Path, column: str | None) -> Table:
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, column)
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = dict(loaded) if hasattr(loaded, "files") else {"x": loaded}
    except (OSError, ValueError, EOFError, KeyError) as error:
        if "pickle" in str(error).lower() and "bject array" in str(error):
            raise CorpusError(f"{path} holds an array of objects, which is never unpickled: write {FORMAT}") from None
        hint = TABLE.format(path.name) if path.suffix.lower() in (".csv", ".tsv", ".txt") else ""
        raise CorpusError(f"{path} cannot be read as a file of NumPy arrays: write {FORMAT}{hint}") from None
    except Exception:  # a damaged zip file has errors of its own
        raise CorpusError(f"{path} cannot be read as a file of NumPy arrays: is it damaged or truncated?") from None
    return _read_arrays(str(path), arrays)


def _read_arrays(shown: str, arrays: dict[str, np.ndarray]) -> Table:
    """Return the arrays of a .npz file as a table."""
    if not {"values", "x"} & set(arrays):
        raise CorpusError(f"{shown} has the arrays {list_names(arrays) or 'none'}: expected {FORMAT}")
    values, lengths = _join_frames(shown, arrays) if "values" in arrays else _drop_padding(shown, arrays)
    columns = {n: a for n, a in arrays.items() if n not in ("x", "values", "lengths") and a.shape == lengths.shape}
    return _check(shown, values, lengths, columns)


def _join_frames(shown: str, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return (sum of lengths, F) values and (N,) lengths, as they are stored."""
    values = arrays["values"]
    if "lengths" not in arrays:
        raise CorpusError(f"{shown} has values but no lengths: write lengths too, the frames of each series")
    return values[:, None] if values.ndim == 1 else values, arrays["lengths"]


def _drop_padding(shown: str, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of padded x: (N, T, F), or (N, T) of one channel."""
    x, lengths = arrays["x"], arrays.get("lengths")
    x = x[..., None] if x.ndim == 2 else x
    if x.ndim != 3:
        raise CorpusError(f"{shown} holds an array of shape {x.shape}: expected (series, frames, channels)")
    lengths = np.full(len(x), x.shape[1]) if lengths is None else lengths
    if lengths.shape != x.shape[:1] or lengths.dtype.kind not in "iu" or (lengths > x.shape[1]).any():
        raise CorpusError(f"{shown}: lengths must be {len(x)} whole numbers of at most {x.shape[1]}, one a series")
    return x[np.arange(x.shape[1]) < lengths[:, None]], lengths


def _check(shown: str, values: np.ndarray, lengths: np.ndarray, columns: dict[str, np.ndarray]) -> Table:
    """Return the table, or raise a `CorpusError` if it cannot be trained on or scored."""
    if values.dtype.kind not in NUMBERS or values.ndim != 2 or not values.shape[1]:
        raise CorpusError(f"{shown} holds {values.dtype} of shape {values.shape}: expected numbers (frames, channels)")
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or int(lengths.sum()) != len(values):
        raise CorpusError(f"{shown}: lengths must be whole numbers, one a series, that sum to {len(values)} frames")
    if not len(lengths):
        raise CorpusError(f"{shown} holds no series")
    if (lengths < 1).any():
        raise CorpusError(f"series {int((lengths < 1).argmax())} of {shown} is empty: leave it out")
    _check_finite(shown, values, lengths)
    values = values if values.dtype == np.float32 else values.astype(np.float64)
    return Table(np.ascontiguousarray(values), lengths.astype(np.int64), columns)


def _check_finite(shown: str, values: np.ndarray, lengths: np.ndarray) -> None:
    infinite = ~np.isfinite(values)
    if infinite.any():
        frame, channel = (int(place) for place in np.argwhere(infinite)[0])
        number = int(np.searchsorted(np.cumsum(lengths), frame, side="right"))
        within = frame - int(lengths[:number].sum())
        raise CorpusError(
            f"series {number} of {shown} has {values[frame, channel]} in frame {within}, channel {channel}: "
            "expected finite numbers; fill or leave out what is missing"
        )


def _read_schema(path: Path) -> "pyarrow.Schema":
    """Return the columns of a parquet file; none where it cannot be read."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException):
        return pyarrow.schema([])


def _choose_column(schema: "pyarrow.Schema", column: str | None) -> str | None:
    """Return the column of lists: the one named, or the only one where no column `text` is text; else None."""
    import pyarrow

    types = pyarrow.types
    kinds = {field.name: field.type for field in schema}
    lists = [n for n, t in kinds.items() if types.is_list(t) or types.is_large_list(t) or types.is_fixed_size_list(t)]
    if column is not None:
        return column if column in lists else None
    has_text = "text" in kinds and containers.is_text(kinds["text"])
    return lists[0] if len(lists) == 1 and not has_text else None


def _read_parquet(path: Path, column: str | None) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise CorpusError(f"{path} cannot be read as parquet: {truncate(error, 200)}") from None
    return _read_column(str(path), table, column)


def _read_column(shown: str, table: "pyarrow.Table", column: str | None) -> Table:
    """Return a column of lists of numbers, or of lists of frames, each a list of numbers, as a table."""
    import pyarrow
    import pyarrow.compute as pc

    chosen = _choose_column(table.schema, column)
    if chosen is None:
        raise CorpusError(
            f"{shown} has no such column of lists, or several: name the one of the series with --column; its columns "
            f"are: {list_names(table.column_names)}; where a row is a series, give an array, such as frame.to_numpy()"
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
    return _check(shown, values, lengths.astype(np.int64), columns)
