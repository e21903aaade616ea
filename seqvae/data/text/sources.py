"""Where texts come from: built-in corpora, files, folders, standard input, the Hugging Face hub, containers in memory.

All become data sets of `datasets`, memory-mapped from its cache on disk, so a corpus may be larger than memory.
"""

import difflib
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import xxhash

from seqvae.data.series.sources import BUILT_IN as SERIES
from seqvae.data.text import containers
from seqvae.data.text.files import (
    FORMATS,
    bare,
    cache_folder,
    content_key,
    count_broken,
    describe_column,
    load_file,
    load_shards,
    quiet,
    text_column,
)
from seqvae.data.text.folders import SAVED, SPLITS, list_names, split_files
from seqvae.data.text.opening import blame
from seqvae.data.text.tokenizer import sound
from seqvae.errors import CorpusError, expand

if TYPE_CHECKING:
    from datasets import Dataset


BUILT_IN = ("grammar", "sotu")
LONGEST = 1_000  # characters of the name of a corpus: a longer one is likelier a text


@dataclass(frozen=True)
class Source:
    """The data sets of a corpus as they were given, by split name, and which column of each holds the text."""

    name: str
    datasets: dict[str, "Dataset"]
    columns: dict[str, str]
    on_disk: bool = True
    notes: tuple[str, ...] = ()


def open_source(source: Any, column: str | None = None) -> Source:
    """Open a built-in corpus, `-`, `hub:NAME[:CONFIG]`, a file, a folder or a container of sentences, if not yet open.

    Raises:
        CorpusError: when it is missing, empty, unreadable, not UTF-8, or has no such column.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, os.PathLike):
        return _open_path(expand(source), column)
    if not isinstance(source, str):
        return _open_container(source, column)
    if source == "-":
        return _single("standard input", _spool(sys.stdin.buffer), column)
    if source in BUILT_IN:
        return _open_built_in(source, column)
    if source.startswith("hub:"):
        return _open_hub(source, column)
    if len(source.splitlines()) > 1 or len(source) > LONGEST:
        shown = f"{' '.join(source[:40].split())} ..."
        raise CorpusError(f"a text was given as the name of a corpus, {shown!r}: write text.splitlines() for its lines")
    return _open_path(expand(source), column)


def located(source: str | os.PathLike) -> str:
    """The name of a corpus as it is understood from anywhere: a file or a folder by its full path."""
    if isinstance(source, str) and (source in (*BUILT_IN, *SERIES) or source == "-" or source.startswith("hub:")):
        return source
    path = expand(source)
    return str(path.resolve()) if isinstance(source, os.PathLike) or path.exists() else source


def _open_container(given: Any, column: str | None) -> Source:
    given = containers.collect(given)
    parts = containers.splits(given, SPLITS)
    made, columns = {}, {}
    for split, part in parts.items():
        shown = containers.describe(given) if part is given else f"the {split} split of {containers.describe(given)}"
        made[split] = _dataset(shown, containers.collect(part))
        columns[split] = text_column(shown, made[split], column)
        texts = made[split].data.column(columns[split])
        if texts.null_count:
            row = texts.is_null().to_pylist().index(True)
            raise CorpusError(
                f"row {row} of {shown} has no text in column {columns[split]!r}: fill or leave out such rows, "
                f"{texts.null_count:,} of {len(texts):,}"
            )
    return Source("sentences", made, columns, on_disk=False)


def _dataset(shown: str, given: Any) -> "Dataset":
    import datasets

    if (found := containers.table(given)) is None:
        return datasets.Dataset.from_dict({"text": _sentences(shown, containers.values(given))})
    try:
        return datasets.Dataset(datasets.table.InMemoryTable(found))
    except Exception as error:
        raise CorpusError(blame(shown, "a table", error)) from None


def _sentences(shown: str, given: list[Any]) -> list[str]:
    for number, sentence in enumerate(given):
        if not isinstance(sentence, str):
            raise CorpusError(f"sentence {number} is {type(sentence).__name__}, not text (in {shown})")
    if not given:
        raise CorpusError(f"{shown} is empty: expected sentences")
    return [sound(sentence) for sentence in given]


def _in_memory(name: str, splits: dict[str, dict[str, list]], column: str | None) -> Source:
    import datasets

    made = {split: datasets.Dataset.from_dict(columns) for split, columns in splits.items()}
    columns = {split: text_column(name, dataset, column) for split, dataset in made.items()}
    return Source(name, made, columns, on_disk=False)


def _open_built_in(name: str, column: str | None) -> Source:
    if name == "grammar":
        from seqvae.data.text import grammar

        splits = grammar.splits()
        floor = -sum(splits["test"]["log_prob"]) / len(splits["test"]["log_prob"])
        note = f"the grammar has an entropy of {grammar.entropy():.3f} nats; the test split has -log p {floor:.3f}"
        return replace(_in_memory(name, splits, column), notes=(note,))
    from seqvae.data.text import sotu

    return _in_memory(name, {"train": {"text": sotu.sentences()}}, column)


def _open_hub(source: str, column: str | None) -> Source:
    import datasets

    name, _, config = source.removeprefix("hub:").partition(":")
    if not name:
        raise CorpusError("hub: needs the name of a data set, as in hub:owner/name or hub:owner/name:configuration")
    if expand(name).exists():  # `datasets` would read it, and go by its time instead of its content
        raise CorpusError(f"{source} names a place on this disk: write {name} to read that")
    try:
        with quiet():
            loaded = datasets.load_dataset(name, config or None)
    except Exception as error:
        raise CorpusError(blame(source, "a data set of the hub", error)) from None
    found = {SPLITS[split]: dataset for split, dataset in loaded.items() if split in SPLITS}
    if "train" not in found:
        raise CorpusError(f"{source} has no train split; it has: {', '.join(loaded)}")
    return Source(source, found, {split: text_column(source, dataset, column) for split, dataset in found.items()})


def _open_path(path: Path, column: str | None) -> Source:
    if not path.exists():
        raise CorpusError(_missing(path))
    if path.is_dir():
        return _open_folder(path, column)
    if not path.is_file():  # a pipe, as of <(command)
        with path.open("rb") as stream:
            return _single(str(path), _spool(stream), column)
    return _single(str(path), path, column, path.name)


def _single(shown: str, path: Path, column: str | None, name: str = "") -> Source:
    dataset, texts = load_file(shown, path, column)
    chosen = text_column(shown, dataset, column, texts)
    return Source(name or shown, {"train": dataset}, {"train": chosen}, notes=_describe_taken([path], dataset, chosen))


def _open_folder(folder: Path, column: str | None) -> Source:
    """The splits that the names of files say, those that `datasets` saved, or those of the folder `data` below."""
    name = folder.resolve().name
    if any((folder / saved).is_file() for saved in SAVED):
        return _open_saved(folder, name, column)
    files, ignored = split_files(folder)
    if "train" not in files and (folder / "data").is_dir():
        folder = folder / "data"
        files, ignored = split_files(folder)
    if "train" not in files:
        present = [*ignored, *sorted(f"{path.name}/" for path in folder.iterdir() if path.is_dir())]
        others = f"; it has: {list_names(present)}" if present else ""
        raise CorpusError(
            f"the folder {folder} has no train file; name one train.txt (or .csv, .jsonl, .parquet){others}"
        )
    notes: tuple[str, ...] = (f"not read, as their names say no split: {list_names(ignored)}",) if ignored else ()
    loaded, columns = {}, {}
    for split, paths in files.items():
        loaded[split], texts = load_shards(paths, column)
        columns[split] = text_column(str(paths[0]), loaded[split], column, texts)
        if split == "train" or columns[split] != columns["train"]:
            notes += _describe_taken(paths, loaded[split], columns[split])
    return Source(name, loaded, columns, notes=notes)


def _describe_taken(paths: list[Path], dataset: "Dataset", column: str) -> tuple[str, ...]:
    """What to tell of the column that was taken, where the file could have several."""
    kind = FORMATS.get(Path(bare(paths[0].name)).suffix.lower(), "text")
    if kind == "text":
        return ()
    taken = describe_column(paths[0].name, dataset, column)
    broken = count_broken(dataset, column) if kind == "csv" else 0
    return (taken, f"{broken:,} of its cells hold several lines, each read as one sentence") if broken else (taken,)


def _open_saved(folder: Path, name: str, column: str | None) -> Source:
    """A folder that `save_to_disk` of a Dataset or of a DatasetDict wrote."""
    import datasets

    try:
        with quiet():
            loaded = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise CorpusError(blame(str(folder), "a folder saved by datasets", error)) from None
    parts = loaded if isinstance(loaded, dict) else {"train": loaded}
    found: dict[str, Dataset] = {}
    for part, dataset in parts.items():
        if part in SPLITS and SPLITS[part] in found:
            raise CorpusError(f"{folder} has two {SPLITS[part]} splits; it has: {', '.join(parts)}")
        if part in SPLITS:
            found[SPLITS[part]] = dataset
    if "train" not in found:
        raise CorpusError(f"{folder} has no train split; it has: {', '.join(parts)}")
    for dataset in found.values():
        written = "".join(content_key(Path(file["filename"])) for file in dataset.cache_files)
        dataset._fingerprint = xxhash.xxh3_128_hexdigest(written.encode())
    columns = {split: text_column(str(folder), dataset, column) for split, dataset in found.items()}
    notes = [describe_column(name, found["train"], columns["train"])]
    if ignored := [part for part in parts if part not in SPLITS]:
        notes.append(f"not read, as their names say no split: {list_names(ignored)}")
    return Source(name, found, columns, notes=tuple(notes))


def _missing(path: Path) -> str:
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, [*BUILT_IN, *SERIES, *siblings], n=1, cutoff=0.6)
    at = str(path.parent / near[0]) if near and near[0] not in (*BUILT_IN, *SERIES) else near[0] if near else ""
    sentence = "; if it is a sentence, write [sentence]" if " " in path.name else ""
    hint = f"; did you mean {at!r}?" if near else sentence
    return f"no corpus {str(path)!r}: it is no file, no folder and none that is built in (curves, grammar, sotu){hint}"


def _spool(stream: BinaryIO) -> Path:
    """Copy a stream to the cache under the name of its content, so that the same content is tokenized once."""
    try:
        return _copy(stream)
    except OSError as error:
        raise CorpusError(blame("standard input", "text", error)) from None


def _copy(stream: BinaryIO) -> Path:
    digest = xxhash.xxh3_128()
    with open(cache_folder() / f"stream.{os.getpid()}", "wb") as file:
        while block := stream.read(1 << 20):
            digest.update(block)
            file.write(block)
    path = cache_folder() / f"stream-{digest.hexdigest()}.txt"
    if path.exists():
        os.unlink(file.name)
    else:
        os.replace(file.name, path)
    return path
