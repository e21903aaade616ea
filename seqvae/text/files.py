"""One file as a data set of `datasets`: text, csv, json or parquet, compressed or not."""

import contextlib
import glob
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from seqvae.errors import CorpusError
from seqvae.text.faults import blame, inspect

if TYPE_CHECKING:
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


def cache_folder() -> Path:
    """The folder of our own files in the cache of `datasets`."""
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE) / "seqvae"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def settle(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file of the cache under a name of its own first, so that no half of it is ever read."""
    part = path.with_suffix(f".{os.getpid()}")
    save(part)
    os.replace(part, path)


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


def load_file(shown: str, path: Path) -> tuple["Dataset", list[str] | None]:
    """The file as a data set, and the columns that hold text where the data set cannot know them."""
    suffix = Path(bare(path.name)).suffix.lower()
    kind = FORMATS.get(suffix, "text")
    options: dict[str, Any] = {"encoding": "utf-8-sig"} if kind == "text" else {}
    texts = None
    inspect(shown, path, kind)
    try:
        with quiet():
            if kind == "csv":
                options, texts = _csv_options(path, "\t" if suffix == ".tsv" else ",")
            return _kept(kind, path, options), texts
    except Exception as error:
        raise CorpusError(blame(shown, kind, error, path)) from None


def _kept(kind: str, path: Path, options: dict[str, Any]) -> "Dataset":
    """Read the file through a cache that knows it by its content: `datasets` itself goes by path and time.

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
            return _called(key, datasets.concatenate_datasets([datasets.Dataset.from_file(table) for table in tables]))
        except Exception:  # a part of it is gone or damaged: the file is read again
            shutil.rmtree(folder, ignore_errors=True)
    source = {"train": [glob.escape(str(path.resolve()))]}
    dataset = datasets.load_dataset(kind, data_files=source, split="train", cache_dir=str(folder), **options)
    names = [os.path.relpath(table["filename"], folder) for table in dataset.cache_files]
    settle(known, lambda part: part.write_text(json.dumps(names), encoding="utf-8"))
    return _called(key, dataset)


def _called(fingerprint: str, dataset: "Dataset") -> "Dataset":
    dataset._fingerprint = fingerprint
    return dataset


def content_key(path: Path) -> str:
    """A name made of the content of a file alone."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _csv_options(path: Path, separator: str) -> tuple[dict[str, Any], list[str]]:
    """Every column is read as text, for the types guessed from the first rows need not fit the later ones."""
    import datasets
    import pandas

    head = pandas.read_csv(path, sep=separator, nrows=1000, keep_default_na=False)
    names = [str(name) for name in head.columns]
    texts = [name for name in names if not pandas.api.types.is_numeric_dtype(head[name])]
    features = datasets.Features({name: datasets.Value("string") for name in names})
    return {"sep": separator, "keep_default_na": False, "features": features}, texts


def text_column(shown: str, dataset: "Dataset", wanted: str | None, texts: list[str] | None = None) -> str:
    """The column that holds the text: the one wanted, else `text`, else the only one of strings.

    Args:
        shown: what to call the data set in an error.
        dataset: the data set.
        wanted: the column that the user named.
        texts: the columns that look like text, for a csv file, which is read as strings throughout.

    Raises:
        CorpusError: when there is no such column, or none can be chosen.
    """
    names = list(dataset.features)
    kinds = {name: getattr(feature, "dtype", "") for name, feature in dataset.features.items()}
    strings = [name for name in names if kinds[name] in ("string", "large_string")]
    if wanted is not None and wanted not in names:
        raise CorpusError(f"{shown} has no column {wanted!r}; its columns are: {', '.join(names)}")
    if wanted is not None and wanted not in strings:
        raise CorpusError(f"the column {wanted!r} of {shown} holds {kinds[wanted] or 'no text'}, not text")
    likely = [name for name in strings if name in texts] if texts is not None else strings
    chosen = wanted or ("text" if "text" in strings else likely[0] if len(likely) == 1 else None)
    if not strings:
        raise CorpusError(f"{shown} has no column of text; its columns are: {', '.join(names)}")
    if chosen is None:
        raise CorpusError(f"{shown} needs --column, the one that holds the text; its columns are: {', '.join(names)}")
    return chosen
