"""Folders of a corpus: which files are which split, by their names."""

import re
from collections.abc import Sequence
from pathlib import Path

from seqvae.data.text.files import FORMATS, bare
from seqvae.errors import CorpusError

SPLITS = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
}
SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` of a DatasetDict or a Dataset leaves
DESCRIBED = frozenset({"dataset_info.json", "dataset_infos.json", "requirements.txt", "license.txt", "readme.txt"})
SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]{16})?")
MOST = 5  # names that a line tells


def split_files(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Find the files of each split, and the other files that could hold text.

    The name of a split is the whole name of a file without its ending (train.txt), or a part of it between full stops,
    underscores or hyphens (ptb.train.txt, en-valid.txt); the first kind goes before the second. Shards, as
    train-00000-of-00002.parquet, are joined in their order.

    Raises:
        CorpusError: for two files of one split, and for shards that are not all there.
    """
    groups: dict[tuple[str, str], dict[int, Path]] = {}
    counts: dict[tuple[str, str], int] = {}
    for path in sorted(folder.iterdir()):
        stem, ending = _split_name(path.name)
        if ending not in FORMATS or path.name.lower() in DESCRIBED or path.name[0] == "." or not path.is_file():
            continue
        shard = SHARD.fullmatch(stem)
        name, number, count = (shard["name"], int(shard["number"]), int(shard["count"])) if shard else (stem, 0, 1)
        key = (name, f"-of-{count}{ending}" if shard else path.name[len(stem) :])
        groups.setdefault(key, {})[number] = path
        counts[key] = count
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


def _split_name(name: str) -> tuple[str, str]:
    """The name of a file without its endings, and the ending that says its format."""
    plain = Path(bare(name.lower()))
    return name[: len(plain.stem)], plain.suffix


def list_names(names: Sequence[str]) -> str:
    """The names in one line, at most so many of them.

    >>> list_names(["a.txt", "b.txt"])
    'a.txt, b.txt'
    """
    rest = f" and {len(names) - MOST:,} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + rest
