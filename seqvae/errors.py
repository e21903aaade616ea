"""The errors that a user can cause, each one sentence: what was given, what was expected, what to write instead.

Commands print the message of a `SeqVAEError` on one line and exit with code 2; everything else is a bug and keeps its
traceback.
"""

import difflib
import os
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any


class SeqVAEError(Exception):
    """Base of every error that a change of input or option can mend."""


class ConfigError(SeqVAEError):
    """An option has a name or a value that cannot be used."""


class CorpusError(SeqVAEError):
    """A corpus cannot be found, read or split."""


class CheckpointError(SeqVAEError):
    """A model folder is missing, damaged, unfinished or not one of ours."""


class TrainingError(SeqVAEError):
    """Training cannot go on, as when the loss is no longer finite."""


class UnknownWordsWarning(UserWarning):
    """Words of the input are not in the vocabulary, and so are read as `<unk>`. Commands print it on one line."""


def choose(kind: str, given: str, known: Iterable[str]) -> str:
    """Return `given` if it is one of `known`, else raise a `ConfigError` that names the nearest and all of them.

    >>> choose("tokenizer", "word", ["word", "char"])
    'word'
    >>> choose("tokenizer", "wrod", ["word", "char"])
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: unknown tokenizer 'wrod'; did you mean 'word'? (known: char, word)
    """
    known = sorted(known)
    if isinstance(given, str) and given in known:
        return given
    near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown {kind} {shown(repr(given))}{hint} (known: {', '.join(known) or 'none'})")


def shown(value: Any) -> str:
    """A value in one line that is not too long.

    >>> shown("two\\nlines"), len(shown(list(range(99))))
    ('two lines', 60)
    """
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def check_size(most: int = 2**16, **sizes: int) -> None:
    """Raise a `ConfigError` for a size below 1 or above `most`, which keeps a damaged file from filling the memory.

    >>> check_size(layers=0)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: layers = 0: expected 1 to 65536
    """
    for name, size in sizes.items():
        if not isinstance(size, Integral) or not 1 <= size <= most:
            raise ConfigError(f"{name} = {size!r}: expected 1 to {most}")


def check_folder(option: str, path: Path) -> None:
    """Raise a `ConfigError` for a file to be written whose folder is not there, before any work is done for it."""
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")


def expand(path: str | os.PathLike) -> Path:
    """Return the path with a leading `~` or `~name` made the home folder, as a shell does, where there is one.

    >>> expand("models/~").as_posix()
    'models/~'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
