"""Sources of texts: built-in corpora, files, folders, standard input, the Hugging Face hub, containers in memory.

All become data sets of `datasets`, memory-mapped from its cache on disk, so a corpus may be larger than memory.
"""

import difflib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from seqvae.data import containers
from seqvae.data.corpus import BUILT_IN_SERIES, BUILT_IN_TEXTS, SPLITS, is_built_in, read_options
from seqvae.data.text.columns import check_encoding, choose_column, choose_columns, describe_choice, describe_column
from seqvae.data.text.files import (
    FORMATS,
    copy_to_cache,
    explain,
    find_format,
    hash_file,
    load_file,
    load_shards,
    set_fingerprint,
    silence_datasets,
    store_texts,
    strip_compression,
)
from seqvae.data.text.tokenizer import replace_surrogates
from seqvae.errors import CorpusError, expand, list_names

if TYPE_CHECKING:
    from datasets import Dataset


LONGEST = 1_000  # characters of the name of a corpus: a longer one is likelier a text
SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` of a DatasetDict or a Dataset writes
DESCRIPTIONS = frozenset({"dataset_info.json", "dataset_infos.json", "requirements.txt", "license.txt", "readme.txt"})
SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]{16})?")


@dataclass(frozen=True)
class Source:
    """The data set of each split of a corpus, as it was given, and which column of it holds the text."""

    name: str
    datasets: dict[str, "Dataset"]
    columns: dict[str, str]
    on_disk: bool = True
    notes: tuple[str, ...] = ()


def open_source(source: Any, column: str | None = None) -> Source:
    """Open a built-in corpus, `-`, `hub:NAME[:CONFIG]`, a file, a folder or a container of sentences, if not yet open.

    Raises:
        CorpusError: when it is missing, empty, unreadable, not UTF-8, or has no such column.
        ConfigError: for an option that a built-in corpus has not.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, os.PathLike):
        return _open_path(expand(source), column)
    if not isinstance(source, str):
        return _open_container(source, column)
    if source == "-":
        return _open_file("standard input", copy_to_cache(sys.stdin.buffer), column)
    if is_built_in(source):
        return _open_built_in(source, column)
    if source.startswith("hub:"):
        return _open_hub(source, column)
    if len(source.splitlines()) > 1 or len(source) > LONGEST:
        shown = f"{' '.join(source[:40].split())} ..."
        raise CorpusError(f"a text was given as the name of a corpus, {shown!r}: write text.splitlines() for its lines")
    return _open_path(expand(source), column)


def locate(source: str | os.PathLike) -> str:
    """Return the name of a corpus as it is understood in any folder: of a file or a folder its full path.

    Raises:
        ConfigError: for an option that a built-in corpus has not.

    >>> locate("chitchat:uncensored:messages")
    'chitchat:messages:uncensored'
    """
    if isinstance(source, str) and is_built_in(source):
        return ":".join(read_options(source))
    if isinstance(source, str) and (source in (*BUILT_IN_SERIES, "-") or source.startswith("hub:")):
        return source
    path = expand(source)
    return str(path.resolve()) if isinstance(source, os.PathLike) or path.exists() else source


# ---- In memory -------------------------------------------------------------------------------------------------------


def _open_built_in(source: str, column: str | None) -> Source:
    name, *options = read_options(source)
    if name == "chitchat":
        from seqvae.data.text import chitchat

        loaded, on_disk = chitchat.load_splits(options)
        return Source(locate(source), loaded, choose_columns(name, loaded, column), on_disk)
    if name == "grammar":
        from seqvae.data.text import grammar

        splits = grammar.build_splits()
        nll = -sum(splits["test"]["log_prob"]) / len(splits["test"]["log_prob"])
        note = f"the grammar has an entropy of {grammar.entropy():.3f} nats; the test split has -log p {nll:.3f}"
        return replace(_open_columns(name, splits, column), notes=(note,))
    from seqvae.data.text import sotu

    return _open_columns(name, {"train": {"text": sotu.read_sentences()}}, column)


def _open_columns(name: str, splits: dict[str, dict[str, list]], column: str | None) -> Source:
    import datasets

    loaded = {split: datasets.Dataset.from_dict(columns) for split, columns in splits.items()}
    return Source(name, loaded, choose_columns(name, loaded, column), on_disk=False)


def _open_container(given: Any, column: str | None) -> Source:
    streamed, given = given, _store_stream(given)
    if given is not streamed and not isinstance(given, list):
        return Source("sentences", {"train": given}, {"train": "text"})
    parts = containers.find_splits(given)
    loaded, columns = {}, {}
    for split, part in parts.items():
        shown = containers.describe(given) if part is given else f"the {split} split of {containers.describe(given)}"
        loaded[split] = _load_container(shown, containers.collect(part), column)
        columns[split] = choose_column(shown, loaded[split], column)
        check_encoding(shown, loaded[split], columns[split])
        texts = loaded[split].data.column(columns[split])
        if texts.null_count:
            row = texts.is_null().to_pylist().index(True)
            raise CorpusError(
                f"row {row} of {shown} has no text in column {columns[split]!r}: fill or leave out such rows, "
                f"{texts.null_count:,} of {len(texts):,}"
            )
    return Source("sentences", loaded, columns, on_disk=False)


def _store_stream(given: Any) -> Any:
    """Store the texts of an iterator in the cache as they come: a data set; of other items return a list.

    Any other container is returned as it is.
    """
    if not isinstance(given, Iterator) or hasattr(given, "read_all"):
        return given
    begin = list(islice(given, 1))
    if not begin or not isinstance(begin[0], str):
        return [*begin, *given]
    return store_texts(_check_stream(chain(begin, given)))


def _check_stream(given: Iterator[Any]) -> Iterator[str]:
    for number, sentence in enumerate(given):
        if not isinstance(sentence, str):
            raise CorpusError(f"sentence {number} is {type(sentence).__name__}, not text (in the iterator)")
        yield replace_surrogates(sentence)


def _load_container(shown: str, given: Any, column: str | None) -> "Dataset":
    import datasets

    if (table := containers.read_table(given)) is None:
        return datasets.Dataset.from_dict({"text": _check_sentences(shown, containers.read_values(given))})
    while (
        column is not None and column not in table.column_names and any(_is_struct(kind) for kind in table.schema.types)
    ):
        table = table.flatten()  # doc.text is then a column of that name
    try:
        return datasets.Dataset(datasets.table.InMemoryTable(table))
    except Exception as error:
        raise CorpusError(explain(shown, "a table", error)) from None


def _is_struct(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_struct(kind))


def _check_sentences(shown: str, given: list[Any]) -> list[str]:
    for number, sentence in enumerate(given):
        if not isinstance(sentence, str):
            raise CorpusError(f"sentence {number} is {type(sentence).__name__}, not text (in {shown})")
    if not given:
        raise CorpusError(f"{shown} is empty: expected sentences")
    return [replace_surrogates(sentence) for sentence in given]


# ---- The hub, files and folders --------------------------------------------------------------------------------------


def _open_hub(source: str, column: str | None) -> Source:
    import datasets

    name, _, config = source.removeprefix("hub:").partition(":")
    if not name:
        raise CorpusError("hub: needs the name of a data set, as in hub:owner/name or hub:owner/name:configuration")
    if expand(name).exists():  # `datasets` would read it, and go by its time instead of its content
        raise CorpusError(f"{source} names a place on this disk: write {name} to read that")
    try:
        with silence_datasets():
            loaded = datasets.load_dataset(name, config or None)
    except Exception as error:
        raise CorpusError(explain(source, "a data set of the hub", error)) from None
    found = {SPLITS[split]: dataset for split, dataset in loaded.items() if split in SPLITS}
    if "train" not in found:
        raise CorpusError(f"{source} has no train split; it has: {', '.join(loaded)}")
    return Source(source, found, choose_columns(source, found, column))


def _open_path(path: Path, column: str | None) -> Source:
    if not path.exists():
        raise CorpusError(_describe_missing(path))
    if path.is_dir():
        return _open_folder(path, column)
    if not path.is_file():  # a pipe, as of <(command)
        with path.open("rb") as stream:
            return _open_file(str(path), copy_to_cache(stream), column)
    return _open_file(str(path), path, column, path.name)


def _describe_missing(path: Path) -> str:
    built_in = (*BUILT_IN_TEXTS, *BUILT_IN_SERIES)
    if path.name in BUILT_IN_SERIES:
        return f"{path.name} holds series, not sentences: expected text; series are for SeriesVAE and its models"
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = next(iter(difflib.get_close_matches(path.name, [*built_in, *siblings], n=1, cutoff=0.6)), None)
    head, colon, options = path.name.partition(":")
    if colon and (alike := difflib.get_close_matches(head, [name for name in BUILT_IN_TEXTS if BUILT_IN_TEXTS[name]])):
        near = alike[0]
    hint = "; if it is a sentence, write [sentence]" if " " in path.name else ""
    if near is not None:
        hint = f"; did you mean {near + colon + options if near in built_in else str(path.parent / near)!r}?"
    return (
        f"no corpus {str(path)!r}: it is no file, no folder and none that is built in ({', '.join(sorted(built_in))})"
        f"{hint}"
    )


def _open_file(shown: str, path: Path, column: str | None, name: str = "") -> Source:
    dataset, texts = load_file(shown, path, column)
    chosen = choose_column(shown, dataset, column, texts)
    if find_format(path) == "parquet":
        check_encoding(shown, dataset, chosen)
    return Source(name or shown, {"train": dataset}, {"train": chosen}, notes=describe_choice([path], dataset, chosen))


def _open_folder(folder: Path, column: str | None) -> Source:
    """Open the splits that `datasets` saved, or the files with names of splits here or in the folder `data` below."""
    name = folder.resolve().name
    if any((folder / saved).is_file() for saved in SAVED):
        return _open_saved(folder, name, column)
    files, ignored = _find_files(folder)
    if "train" not in files and (folder / "data").is_dir():
        folder = folder / "data"
        files, ignored = _find_files(folder)
    if "train" not in files:
        present = [*ignored, *sorted(f"{path.name}/" for path in folder.iterdir() if path.is_dir())]
        others = f"; it has: {list_names(present, 5)}" if present else ""
        raise CorpusError(
            f"the folder {folder} has no train file; name one train.txt (or .csv, .jsonl, .parquet){others}"
        )
    notes = _describe_ignored(ignored)
    loaded, columns = {}, {}
    for split, paths in files.items():
        loaded[split], texts = load_shards(paths, column)
        columns[split] = choose_column(str(paths[0]), loaded[split], column, texts)
        if find_format(paths[0]) == "parquet":
            check_encoding(str(paths[0]), loaded[split], columns[split])
        if split == "train" or columns[split] != columns["train"]:
            notes += describe_choice(paths, loaded[split], columns[split])
    return Source(name, loaded, columns, notes=notes)


def _open_saved(folder: Path, name: str, column: str | None) -> Source:
    """Open a folder that `save_to_disk` of a Dataset or of a DatasetDict wrote."""
    import datasets

    try:
        with silence_datasets():
            loaded = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise CorpusError(explain(str(folder), "a folder saved by datasets", error)) from None
    parts = loaded if isinstance(loaded, dict) else {"train": loaded}
    found: dict[str, Dataset] = {}
    for part, dataset in parts.items():
        if part in SPLITS and SPLITS[part] in found:
            raise CorpusError(f"{folder} has two {SPLITS[part]} splits; it has: {', '.join(parts)}")
        if part in SPLITS:
            content = "".join(hash_file(Path(file["filename"])) for file in dataset.cache_files)
            found[SPLITS[part]] = set_fingerprint(dataset, xxhash.xxh3_128_hexdigest(content.encode()))
    if "train" not in found:
        raise CorpusError(f"{folder} has no train split; it has: {', '.join(parts)}")
    columns = choose_columns(str(folder), found, column)
    taken = describe_column(name, found["train"], columns["train"])
    ignored = _describe_ignored([part for part in parts if part not in SPLITS])
    return Source(name, found, columns, notes=(taken, *ignored))


def holds_splits(folder: Path) -> bool:
    """Tell whether a folder has a file of a split, as `train.txt`."""
    if not folder.is_dir():
        return False
    try:
        return bool(_find_files(folder)[0])
    except CorpusError:  # two of one split: whoever reads it says so
        return True


def _find_files(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Find the files of each split, and the names of the other files that could hold text.

    The name of a split is the whole name of a file without its ending (train.txt), or a part of it between full stops,
    underscores or hyphens (ptb.train.txt, en-valid.txt); the first kind goes before the second. Shards, as
    train-00000-of-00002.parquet, are joined in their order.

    Raises:
        CorpusError: for two files of one split, and for missing shards.
    """
    groups, counts = _group_shards(folder)
    chosen: dict[str, tuple[str, str]] = {}
    for key in sorted(groups, key=lambda key: key[0].lower() not in SPLITS):
        parts = {SPLITS[part] for part in re.split(r"[._-]", key[0].lower()) if part in SPLITS}
        if len(parts) != 1:
            continue
        (split,) = parts
        whole = key[0].lower() in SPLITS
        if split in chosen and (chosen[split][0].lower() in SPLITS) == whole:
            two = sorted(next(iter(groups[found].values())).name for found in (chosen[split], key))
            raise CorpusError(
                f"{folder} has two {split} files, {two[0]} and {two[1]}: expected one, or one named {split}"
            )
        chosen.setdefault(split, key)
    for key in chosen.values():
        if missing := sorted(set(range(counts[key])) - groups[key].keys()):
            first = next(iter(groups[key].values())).name
            raise CorpusError(f"{folder} lacks shard {missing[0]} of the {counts[key]} that {first} is one of")
    files = {split: [path for _, path in sorted(groups[key].items())] for split, key in chosen.items()}
    taken = {path for paths in files.values() for path in paths}
    ignored = [path.name for group in groups.values() for path in group.values() if path not in taken]
    return {split: files[split] for split in ("train", "valid", "test") if split in files}, sorted(ignored)


def _group_shards(folder: Path) -> tuple[dict[tuple[str, str], dict[int, Path]], dict[tuple[str, str], int]]:
    """Return the files that could hold text, by name and ending, then by shard; and the number of shards of each."""
    groups: dict[tuple[str, str], dict[int, Path]] = {}
    counts: dict[tuple[str, str], int] = {}
    for path in sorted(folder.iterdir()):
        plain = Path(strip_compression(path.name.lower()))
        stem, ending = path.name[: len(plain.stem)], plain.suffix
        if ending not in FORMATS or path.name.lower() in DESCRIPTIONS or path.name[0] == "." or not path.is_file():
            continue
        shard = SHARD.fullmatch(stem)
        name, number, count = (shard["name"], int(shard["number"]), int(shard["count"])) if shard else (stem, 0, 1)
        key = (name, f"-of-{count}{ending}" if shard else path.name[len(stem) :])
        groups.setdefault(key, {})[number] = path
        counts[key] = count
    return groups, counts


def _describe_ignored(names: list[str]) -> tuple[str, ...]:
    return (f"not read, as their names are not of splits: {list_names(names, 5)}",) if names else ()
