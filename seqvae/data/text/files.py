"""One file as a data set of `datasets`: text, csv, json or parquet, compressed or not."""

import contextlib
import glob
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from seqvae.data.text.dialects import ROWS, BadRowError, Dialect, find_dialect, read_rows
from seqvae.data.text.opening import blame, inspect, open_text
from seqvae.data.text.records import find_types, make_converter, read_records, refuse_mixture
from seqvae.errors import CorpusError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset


FORMATS = {
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
STRINGS = ("string", "large_string")
KINDS = dict.fromkeys(("list", "largelist", "sequence"), "lists") | {
    "json": "values of several kinds",
    "null": "nothing",
}
SHOWN = 80  # characters of the line that names the column taken, or a little more
TABLES = 1  # the version of the tables that are kept: another way to read them must not find the old ones


def cache_folder() -> Path:
    """The folder of our own files in the cache of `datasets`."""
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE) / "seqvae"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def settle(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file of the cache under a name of its own first, so that no half of it is ever read."""
    part = path.with_suffix(f".{os.getpid()}")
    try:
        save(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars and the log of `datasets` away from the user."""
    import datasets

    shown, level = not datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if shown:
            datasets.enable_progress_bars()


def bare(name: str) -> str:
    """The name of a file without the ending that says how it is compressed."""
    return next((name.removesuffix(ending) for ending in COMPRESSED if name.endswith(ending)), name)


def load_file(shown: str, path: Path, column: str | None = None) -> tuple["Dataset", list[str] | None]:
    """Load a file as a data set, and name the columns that hold text where the data set cannot know them.

    Args:
        shown: what to call the file in an error.
        path: the file.
        column: the one that the user named, by which a table without a header is told from one with a header.

    Raises:
        CorpusError: when it cannot be read.
    """
    suffix = Path(bare(path.name)).suffix.lower()
    kind = FORMATS.get(suffix, "text")
    inspect(shown, path, kind)
    try:
        with quiet():
            if kind == "csv":
                return load_table(shown, path, column)
            if kind == "json":
                return load_records(shown, path, column)
            options: dict[str, Any] = {"encoding": "utf-8-sig"} if kind == "text" else {}
            return _load_by_content(kind, path, options), None
    except CorpusError as error:
        raise error from None
    except Exception as error:
        raise CorpusError(blame(shown, kind, error, path)) from None


def load_shards(paths: list[Path], column: str | None = None) -> tuple["Dataset", list[str] | None]:
    """Load the files of one split as one data set, in their order."""
    import datasets

    parts = [load_file(str(path), path, column) for path in paths]
    if len(parts) == 1:
        return parts[0]
    first, texts = parts[0]
    for path, (part, _) in zip(paths, parts, strict=True):
        if part.column_names != first.column_names:
            raise CorpusError(
                f"{path} has the columns {', '.join(part.column_names)}, but {paths[0].name} has "
                f"{', '.join(first.column_names)}: expected the same in all shards"
            )
    try:
        return datasets.concatenate_datasets([part for part, _ in parts]), texts
    except Exception as error:
        raise CorpusError(blame(f"{paths[0]} and its other shards", "one data set", error)) from None


def load_table(shown: str, path: Path, column: str | None) -> tuple["Dataset", list[str]]:
    """Load a .csv or .tsv file, every cell as text, and name the columns that hold anything but numbers."""
    with open_text(path) as file:
        dialect = find_dialect(shown, file, column)

    def write(target: Path) -> None:
        fault = ""
        for reading in dialect.readings:
            try:
                return settle(target, partial(_write_table, path, dialect, reading))
            except BadRowError as error:
                fault = str(error) if reading == "quoted" else fault or str(error)
        raise CorpusError(f"{shown} cannot be read as csv: {fault}")

    return _load_kept(path, f"{dialect.delimiter}|{dialect.skipped}", write), list(dialect.texts)


def _write_table(path: Path, dialect: Dialect, reading: str, target: Path) -> None:
    import pyarrow

    schema = pyarrow.schema([(name, pyarrow.string()) for name in dialect.names])
    with open_text(path) as file:
        rows = islice(read_rows(file, dialect.delimiter, reading), dialect.skipped, None)
        _write_arrow(target, schema, rows)


def load_records(shown: str, path: Path, column: str | None) -> tuple["Dataset", list[str]]:
    """Load a .jsonl or .json file, and name the columns that hold texts alone."""

    def write(target: Path) -> None:
        settle(target, partial(_write_records, shown, path))

    dataset = _load_kept(path, "records", write)
    kinds = {name: _describe_kind(feature) for name, feature in dataset.features.items()}
    texts = [name for name, kind in kinds.items() if kind == "string"]
    mixed = [name for name, kind in kinds.items() if kind == "large_string"]
    chosen = column or ("text" if "text" in kinds else mixed[0] if mixed and not texts else None)
    if chosen is not None and chosen in mixed:
        refuse_mixture(shown, path, chosen)
    return dataset, texts


def _write_records(shown: str, path: Path, target: Path) -> None:
    import pyarrow

    types = find_types(shown, path)
    if not types:
        raise CorpusError(f"{shown} is empty")
    records = (record for _, record in read_records(shown, path))
    columns = [(name, make_converter(kind)) for name, kind in types.items()]
    rows = ([convert(record.get(name)) for name, convert in columns] for record in records)
    _write_arrow(target, pyarrow.schema(list(types.items())), rows)


def _write_arrow(target: Path, schema: "pyarrow.Schema", rows: Iterator[Sequence[Any]]) -> None:
    """Write rows to a file of Arrow, a block at a time."""
    import pyarrow

    with pyarrow.OSFile(str(target), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
        while block := list(islice(rows, ROWS)):
            columns = zip(zip(*block, strict=True), schema.types, strict=True)
            writer.write_batch(pyarrow.record_batch([pyarrow.array(*pair) for pair in columns], schema=schema))


def _load_kept(path: Path, how: str, write: Callable[[Path], object]) -> "Dataset":
    """Load what `write` makes of a file in the cache, once for each content."""
    import datasets

    key = xxhash.xxh3_128_hexdigest(f"{content_key(path)}|{Path(bare(path.name)).suffix}|{how}|{TABLES}".encode())
    target = cache_folder() / f"table-{key}.arrow"
    with contextlib.suppress(Exception):  # not there yet, or damaged
        return datasets.Dataset(datasets.table.MemoryMappedTable.from_file(str(target)), fingerprint=key)
    write(target)
    return datasets.Dataset(datasets.table.MemoryMappedTable.from_file(str(target)), fingerprint=key)


def _load_by_content(kind: str, path: Path, options: dict[str, Any]) -> "Dataset":
    """Load a file through a cache that knows it by its content: `datasets` itself goes by path and time.

    The fingerprint of the data set is that content and the way it was read, so all that is kept under it is as safe.
    """
    import datasets

    described = f"{content_key(path)}|{kind}|{sorted(options.items())}|{datasets.__version__}"
    key = xxhash.xxh3_128_hexdigest(described.encode())
    folder = cache_folder() / f"file-{key}"
    known = folder / "tables.json"
    if known.exists():
        try:
            tables = [str(folder / name) for name in json.loads(known.read_text(encoding="utf-8"))]
            return _rename(key, datasets.concatenate_datasets([datasets.Dataset.from_file(table) for table in tables]))
        except Exception:  # a part of it is gone or damaged: it is read again
            shutil.rmtree(folder, ignore_errors=True)
    source = {"train": [glob.escape(str(path.resolve()))]}
    dataset = datasets.load_dataset(kind, data_files=source, split="train", cache_dir=str(folder), **options)
    names = [os.path.relpath(table["filename"], folder) for table in dataset.cache_files]
    settle(known, lambda part: part.write_text(json.dumps(names), encoding="utf-8"))
    return _rename(key, dataset)


def _rename(fingerprint: str, dataset: "Dataset") -> "Dataset":
    dataset._fingerprint = fingerprint
    return dataset


def content_key(path: Path) -> str:
    """Make a name of the content of a file alone."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def text_column(shown: str, dataset: "Dataset", wanted: str | None, texts: list[str] | None = None) -> str:
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
    strings = [name for name in names if kinds[name] in STRINGS]
    if wanted is not None and wanted not in names and wanted.isdecimal() and 0 < int(wanted) <= len(names):
        wanted = names[int(wanted) - 1]
    if wanted is not None and wanted not in names:
        outer = wanted.partition(".")[0]
        hint = f"; a text within {outer!r} is not read: make it a column of its own" if outer in names else ""
        raise CorpusError(f"{shown} has no column {wanted!r}; its columns are: {', '.join(names)}{hint}")
    if wanted is not None and wanted not in strings:
        raise CorpusError(f"the column {wanted!r} of {shown} holds {kinds[wanted]}, not text{_suggest(kinds[wanted])}")
    likely = [name for name in strings if name in texts] if texts is not None else strings
    chosen = wanted or ("text" if "text" in strings else likely[0] if len(likely) == 1 else None)
    if not strings:
        told = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise CorpusError(f"{shown} has no column of text; its columns are: {told}{_suggest(*kinds.values())}")
    if chosen is None:
        raise CorpusError(f"{shown} needs --column, the one that holds the text; its columns are: {', '.join(names)}")
    return chosen


def describe_column(shown: str, dataset: "Dataset", column: str) -> str:
    """Name the column that was taken, with its first sentence, in one line of about 80 characters."""
    first = ""
    for text in chain.from_iterable(part.to_pylist() for part in dataset.data.column(column).slice(0, ROWS).chunks):
        if first := " ".join((text or "")[:SHOWN].split()):
            break
    taken = f"column {column!r} of {shown}: "
    room = max(20, SHOWN - len(taken))
    return taken + json.dumps(first if len(first) <= room else first[: room - 4] + " ...", ensure_ascii=False)


def count_broken(dataset: "Dataset", column: str) -> int:
    """Count the cells of a column that hold more than one line."""
    import pyarrow.compute

    parts = (
        pyarrow.compute.match_substring_regex(part, r"\S\s*[\n\r]\s*\S") for part in dataset.data.column(column).chunks
    )
    return sum(part.true_count for part in parts)


def _describe_kind(feature: Any) -> str:
    """What a column holds, in a word or two."""
    if isinstance(feature, dict):
        return "objects"
    kind = getattr(feature, "dtype", None) or type(feature).__name__.lower()
    return KINDS.get(kind, kind)


def _suggest(*kinds: str) -> str:
    if "lists" in kinds:
        return "; join the words of each list with spaces into one text"
    return "; make the text within the objects a column of its own" if "objects" in kinds else ""
