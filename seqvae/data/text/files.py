"""Files: text, csv, json or parquet, compressed or not, as data sets of `datasets`; and what is wrong with a bad one.

What is read is kept in the cache of `datasets` under a name made of the content of the file: a file is read once, and
an edited one again, wherever it is.
"""

import bz2
import contextlib
import errno
import glob
import gzip
import io
import json
import lzma
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import xxhash

from seqvae.data.text.dialects import ROWS, BadRowError, Dialect, find_dialect, read_rows
from seqvae.data.text.records import find_types, make_converter, read_records, refuse_mixture
from seqvae.errors import CorpusError, list_names, write_atomically

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
TABLES = 1  # the version of the tables that are kept: another way to read files must not find the old ones


def _open_zst(path: Path, mode: str) -> Any:
    import pyarrow

    return pyarrow.input_stream(str(path), compression="zstd")


_OPEN: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _open_zst}
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_WIDE = {"UTF-32": ("utf-32-le", "utf-32-be"), "UTF-16": ("utf-16-le", "utf-16-be")}
_MARKS = {"UTF-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "UTF-16": (b"\xff\xfe", b"\xfe\xff")}  # the longer ones first


def load_file(shown: str, path: Path, column: str | None = None) -> tuple["Dataset", list[str] | None]:
    """Load a file as a data set, and name the columns that hold text where the data set cannot know them.

    Args:
        shown: what to call the file in an error.
        path: the file.
        column: the one that the user named, by which a table without a header is distinguished from one with.

    Raises:
        CorpusError: when it cannot be read.
    """
    kind = find_format(path)
    check_readable(shown, path, kind)
    try:
        with silence_datasets():
            if kind == "csv":
                return _load_table(shown, path, column)
            if kind == "json":
                return _load_records(shown, path, column)
            options: dict[str, Any] = {"encoding": "utf-8-sig"} if kind == "text" else {}
            return _load_by_content(kind, path, options), None
    except CorpusError as error:
        raise error from None
    except Exception as error:
        raise CorpusError(explain(shown, kind, error, path)) from None


def load_shards(paths: list[Path], column: str | None = None) -> tuple["Dataset", list[str] | None]:
    """Load the files of one split as one data set, in their order; otherwise as `load_file`."""
    import datasets

    parts = [load_file(str(path), path, column) for path in paths]
    if len(parts) == 1:
        return parts[0]
    first, texts = parts[0]
    for path, (part, _) in zip(paths, parts, strict=True):
        if part.column_names != first.column_names:
            raise CorpusError(
                f"{path} has the columns {list_names(part.column_names)}, but {paths[0].name} has "
                f"{list_names(first.column_names)}: expected the same in all shards"
            )
    try:
        return datasets.concatenate_datasets([part for part, _ in parts]), texts
    except Exception as error:
        raise CorpusError(explain(f"{paths[0]} and its other shards", "one data set", error)) from None


def find_format(path: Path) -> str:
    """Return the format of a file by its name: a value of `FORMATS`, `text` for any other."""
    return FORMATS.get(Path(strip_compression(path.name)).suffix.lower(), "text")


def strip_compression(name: str) -> str:
    """Return the name of a file without the ending of its compression.

    >>> strip_compression("train.csv.gz")
    'train.csv'
    """
    return next((name.removesuffix(ending) for ending in _OPEN if name.endswith(ending)), name)


def copy_to_cache(stream: BinaryIO) -> Path:
    """Copy a stream to the cache under the name of its content, so that the same content is tokenized once.

    Raises:
        CorpusError: when it cannot be written.
    """
    digest = xxhash.xxh3_128()
    try:
        part = get_cache_folder() / f"stream.{os.getpid()}"
        try:
            with open(part, "wb") as file:
                while block := stream.read(1 << 20):
                    digest.update(block)
                    file.write(block)
            path = get_cache_folder() / f"stream-{digest.hexdigest()}.txt"
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise CorpusError(explain("standard input", "text", error)) from None
    return path


def store_texts(texts: Iterator[str]) -> "Dataset":
    """Write texts to the cache as they come, a block at a time, and load them: they may be more than fit into memory.

    Raises:
        CorpusError: when they cannot be written.
    """
    import datasets
    import pyarrow

    digest = xxhash.xxh3_128()

    def read() -> Iterator[tuple[str]]:
        for text in texts:
            digest.update(text.encode() + b"\n")
            yield (text,)

    try:
        part = get_cache_folder() / f"texts.{os.getpid()}"
        try:
            _write_arrow(part, pyarrow.schema([("text", pyarrow.large_string())]), read())
            path = get_cache_folder() / f"texts-{digest.hexdigest()}.arrow"
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise CorpusError(explain("the sentences", "text", error)) from None
    table = datasets.table.MemoryMappedTable.from_file(str(path))
    return datasets.Dataset(table, fingerprint=digest.hexdigest())


# ---- The cache -------------------------------------------------------------------------------------------------------


def get_cache_folder() -> Path:
    """Return the folder of our own files in the cache of `datasets`, which is made if missing."""
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE) / "seqvae"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def silence_datasets() -> Iterator[None]:
    """Show no progress bars and no log of `datasets`."""
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


def hash_file(path: Path) -> str:
    """Return a hash of the content of a file alone."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def set_fingerprint(dataset: "Dataset", fingerprint: str) -> "Dataset":
    """Return the data set with a fingerprint of ours, which all that is kept in the cache goes by."""
    dataset._fingerprint = fingerprint
    return dataset


def _load_by_content(kind: str, path: Path, options: dict[str, Any]) -> "Dataset":
    """Load a file through a cache that goes by its content: that of `datasets` goes by path and time.

    The fingerprint of the data set is that content and the way it was read, so all that is kept under it is as safe.
    """
    import datasets

    described = f"{hash_file(path)}|{kind}|{sorted(options.items())}|{datasets.__version__}"
    key = xxhash.xxh3_128_hexdigest(described.encode())
    folder = get_cache_folder() / f"file-{key}"
    known = folder / "tables.json"
    if known.exists():
        try:
            tables = [str(folder / name) for name in json.loads(known.read_text(encoding="utf-8"))]
            parts = [datasets.Dataset.from_file(table) for table in tables]
            return set_fingerprint(datasets.concatenate_datasets(parts), key)
        except Exception:  # a part of it is gone or damaged: the file is read again
            shutil.rmtree(folder, ignore_errors=True)
    source = {"train": [glob.escape(str(path.resolve()))]}
    dataset = datasets.load_dataset(kind, data_files=source, split="train", cache_dir=str(folder), **options)
    names = json.dumps([os.path.relpath(table["filename"], folder) for table in dataset.cache_files])
    write_atomically(known, lambda part: part.write_text(names, encoding="utf-8"), shared=True)
    return set_fingerprint(dataset, key)


def _load_or_write(path: Path, how: str, write: Callable[[Path], object]) -> "Dataset":
    """Load the table that `write` makes of a file, from the cache when it was made before of this content and `how`."""
    import datasets

    ending = Path(strip_compression(path.name)).suffix
    key = xxhash.xxh3_128_hexdigest(f"{hash_file(path)}|{ending}|{how}|{TABLES}".encode())
    target = get_cache_folder() / f"table-{key}.arrow"
    with contextlib.suppress(Exception):  # not there yet, or damaged
        return datasets.Dataset(datasets.table.MemoryMappedTable.from_file(str(target)), fingerprint=key)
    write(target)
    return datasets.Dataset(datasets.table.MemoryMappedTable.from_file(str(target)), fingerprint=key)


# ---- Tables and records ----------------------------------------------------------------------------------------------


def _load_table(shown: str, path: Path, column: str | None) -> tuple["Dataset", list[str]]:
    """Load a .csv or .tsv file, every cell as text, and name the columns that hold anything but numbers."""
    with open_text(path) as file:
        dialect = find_dialect(shown, file, column)

    def write(target: Path) -> None:
        problem = ""
        for reading in dialect.readings:
            try:
                return write_atomically(target, partial(_write_table, path, dialect, reading), shared=True)
            except BadRowError as error:
                problem = str(error) if reading == "quoted" else problem or str(error)
        raise CorpusError(f"{shown} cannot be read as csv: {problem}")

    return _load_or_write(path, f"{dialect.delimiter}|{dialect.skipped}", write), list(dialect.texts)


def _write_table(path: Path, dialect: Dialect, reading: str, target: Path) -> None:
    import pyarrow

    schema = pyarrow.schema([(name, pyarrow.string()) for name in dialect.names])
    with open_text(path) as file:
        rows = islice(read_rows(file, dialect.delimiter, reading), dialect.skipped, None)
        _write_arrow(target, schema, rows)


def _load_records(shown: str, path: Path, column: str | None) -> tuple["Dataset", list[str]]:
    """Load a .jsonl or .json file, and name the columns that hold texts alone."""
    nested = column if column is not None and "." in column else None
    write = partial(_write_records, shown, path, nested)
    how = "records" if nested is None else f"records|{nested}"
    dataset = _load_or_write(path, how, lambda target: write_atomically(target, write, shared=True))
    kinds = {name: getattr(feature, "dtype", None) for name, feature in dataset.features.items()}
    texts = [name for name, kind in kinds.items() if kind == "string"]
    mixed = [name for name, kind in kinds.items() if kind == "large_string"]
    chosen = column or ("text" if "text" in kinds else mixed[0] if mixed and not texts else None)
    if chosen is not None and chosen in mixed:
        with open_text(path) as file:
            refuse_mixture(shown, file, ".json" in path.suffixes, chosen)
    return dataset, texts


def _write_records(shown: str, path: Path, nested: str | None, target: Path) -> None:
    import pyarrow

    whole = ".json" in path.suffixes
    with open_text(path) as file:
        types = find_types(shown, file, whole, nested)
    if not types:
        raise CorpusError(f"{shown} is empty")
    columns = [(name, make_converter(kind)) for name, kind in types.items()]
    with open_text(path) as file:
        records = (record for _, record in read_records(shown, file, whole, nested))
        rows = ([convert(record.get(name)) for name, convert in columns] for record in records)
        _write_arrow(target, pyarrow.schema(list(types.items())), rows)


def _write_arrow(target: Path, schema: "pyarrow.Schema", rows: Iterator[Sequence[Any]]) -> None:
    """Write rows to a file of Arrow, a block at a time."""
    import pyarrow

    with pyarrow.OSFile(str(target), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
        while block := list(islice(rows, ROWS)):
            columns = zip(zip(*block, strict=True), schema.types, strict=True)
            writer.write_batch(pyarrow.record_batch([pyarrow.array(*pair) for pair in columns], schema=schema))


# ---- Bytes, and what is wrong with them ------------------------------------------------------------------------------


def open_bytes(path: Path) -> Any:
    """Open a file as bytes, decompressed by its ending."""
    return _OPEN.get(path.suffix, open)(path, "rb")


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a file as text in UTF-8, with or without a byte order mark, and with the ends of lines as they are."""
    return io.TextIOWrapper(io.BufferedReader(open_bytes(path)), encoding="utf-8-sig", newline="")


def check_readable(shown: str, path: Path, kind: str) -> None:
    """Raise a `CorpusError` for a file that is empty, cannot be opened, or is plainly no text."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
    except OSError as error:
        raise CorpusError(f"{shown} cannot be read: {error.strerror}") from None
    if not head:
        raise CorpusError(f"{shown} is empty")
    if path.suffix in (".npz", ".npy"):
        raise CorpusError(f"{shown} holds arrays, not text; give a text file in UTF-8, one sentence a line")
    if kind == "parquet":
        return
    if path.suffix in _OPEN:
        head = b""
        with contextlib.suppress(OSError, EOFError, zlib.error, lzma.LZMAError), open_bytes(path) as file:
            head = file.read(1 << 16)
    if encoding := _find_wide_encoding(head):
        raise CorpusError(f"{shown} is {encoding}, not UTF-8; save it as UTF-8")
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls > 0.1 * len(head):
        raise CorpusError(f"{shown} is binary, not text; give a text file in UTF-8, one sentence a line")


def _find_wide_encoding(head: bytes) -> str:
    """Return the encoding of two or four bytes a character of a text, with or without its mark; else nothing."""
    for name, marks in _MARKS.items():
        if head.startswith(marks):
            return name
    if b"\0" not in head:
        return ""
    for name, encodings in _WIDE.items():
        for encoding in encodings:
            with contextlib.suppress(UnicodeDecodeError):
                text = head[: len(head) // 4 * 4].decode(encoding)
                if {"\n", "\r", " "} & set(text) and all(
                    character.isprintable() or character in "\t\n\v\f\r" for character in text
                ):
                    return f"{name} without a mark of it"
    return ""


def explain(shown: str, kind: str, error: BaseException, path: Path | None = None) -> str:
    """Return one sentence for why `error` came of reading `shown` as `kind`."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    for cause in chain:
        if isinstance(cause, UnicodeDecodeError):
            place, guess = _find_bad_byte(path)
            return f"{shown} is not UTF-8{place}; save it as UTF-8{guess}"
        if type(cause).__name__ in ("SchemaInferenceError", "EmptyDataError"):
            return f"{shown} is empty"
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return f"no space left on the disk for the cache of {shown}; set HF_HOME to a folder that has some"
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"the cache of {shown} cannot be written ({cause}); set HF_HOME to a folder that can"
    last = chain[-1] if kind != "a data set of the hub" else error
    return f"{shown} cannot be read as {kind}: {' '.join(str(last).split())[:300] or type(last).__name__}"


def _find_bad_byte(path: Path | None) -> tuple[str, str]:
    """Return line and byte of the first byte that is not UTF-8, and a guess at the encoding of the text."""
    if path is None:
        return "", ""
    offset, plain = 0, True
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                plain = plain and line[: error.start].isascii()  # else it is damaged UTF-8, it seems
                guess = _guess_western(line, error.start) if plain else ""
                return f" (line {number}, byte {offset + error.start})", guess
            offset, plain = offset + len(line), plain and line.isascii()
    return "", ""


def _guess_western(line: bytes, place: int) -> str:
    """Guess at one byte a letter of western Europe: a letter or mark between ASCII, or two of them in a word of it."""
    run = re.match(rb"[\x80-\xff]+", line[place:])
    assert run is not None  # the byte that is not UTF-8 is above 127
    letters, end = run[0].decode("cp1252", "replace"), place + len(run[0])
    within = line[:place][-1:].isalpha() and line[end : end + 1].isalpha() and letters.isalpha()
    if len(letters) > (2 if within else 1) or "\ufffd" in letters:
        return ""
    return f" (it looks like Windows-1252, with {letters!r} there: iconv -f cp1252 -t utf-8)"
