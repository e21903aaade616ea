"""Errors that a user can cause, and the checks of arguments that raise them.

A message is one sentence: what was given, what was expected, what to write instead. Commands print that of a
`SeqVAEError` on one line and exit with code 2; any other exception is a bug and keeps its traceback.
"""

import difflib
import math
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from typing import Any

LARGEST = 2**63 - 1  # whole number that torch takes
LONGEST_NAME = 255  # bytes; file systems have no longer ones


class SeqVAEError(Exception):
    """Base of all errors that another input or option avoids."""


class ConfigError(SeqVAEError):
    """An option has a name or a value that cannot be used."""


class CorpusError(SeqVAEError):
    """A corpus cannot be found, read or split."""


class CheckpointError(SeqVAEError):
    """A model folder is missing, damaged, unfinished or was not written by seqvae."""


class TrainingError(SeqVAEError):
    """Training cannot go on, as when the loss is no longer finite."""


class UnknownWordsWarning(UserWarning):
    """Words of the input are not in the vocabulary and are read as `<unk>`. Commands print it on one line."""


def choose(kind: str, given: str, known: Iterable[str]) -> str:
    """Return `given` if it is one of `known`, else raise a `ConfigError` that names the nearest and lists all.

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
    raise ConfigError(f"unknown {kind} {shorten(given)}{hint} (known: {', '.join(known) or 'none'})")


def truncate(value: Any, most: int = 60) -> str:
    """Return a value as text on one line of at most `most` characters.

    >>> truncate("two\\nlines"), len(truncate("word " * 99))
    ('two lines', 60)
    """
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def cut_out(text: str, most: int = 1500) -> str:
    """Return a message, without its middle if it has more than `most` characters: what was wrong, and what to write.

    >>> cut_out("no column " + 99 * "x" + ": write another", most=40)
    'no column xxxxxxxx ... xx: write another'
    """
    part = (most - 5) // 2
    return text if len(text) <= most else f"{text[: most - part - 5]} ... {text[-part:]}"


def list_names(names: Iterable[Any], most: int = 20) -> str:
    """Return names in one line: at most `most` of them, each of at most 60 characters.

    >>> list_names(["past", "present", "future"], most=2)
    'past, present and 1 more'
    """
    shown = [truncate(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most:,} more" if len(shown) > most else "")


def shorten(value: Any) -> str:
    """Return a wrong value as an error shows it: its truncated `repr`, after the name of its type.

    >>> shorten("word"), shorten([1] * 99)
    ("'word'", 'list [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,...')
    """
    kind = "" if isinstance(value, str | int | float | complex | None) else f"{type(value).__name__} "
    return kind + truncate(repr(value), most=42)


def check_whole(least: float = -math.inf, most: float = math.inf, **values: Any) -> None:
    """Raise a `ConfigError` unless each value is a whole number from `least` to `most`.

    >>> check_whole(1, steps=2.5)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: steps = 2.5: expected a whole number, at least 1
    """
    for name, value in values.items():
        if not isinstance(value, Integral) or not least <= int(value) <= min(most, LARGEST):
            below = most < math.inf or (isinstance(value, Integral) and int(value) > LARGEST)
            limits = [f", at least {least}"] * (least > -math.inf) + [f", at most {min(most, LARGEST)}"] * below
            shown = f" from {least} to {min(most, LARGEST)}" if len(limits) == 2 else "".join(limits)
            raise ConfigError(f"{name} = {shorten(value)}: expected a whole number{shown}")


def check_size(most: int = 2**16, **sizes: Any) -> None:
    """Raise a `ConfigError` unless each size is from 1 to `most`; the limit keeps a damaged file from filling memory.

    >>> check_size(layers=0)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: layers = 0: expected 1 to 65536
    """
    for name, size in sizes.items():
        if not isinstance(size, Integral) or not 1 <= int(size) <= most:
            raise ConfigError(f"{name} = {shorten(size)}: expected 1 to {most}")


def check_folder(option: str, path: Path) -> None:
    """Raise a `ConfigError` if the folder of a file to be written does not exist, before any work is done for it."""
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")


def check_output(option: str, path: Path, *read: str | Path | None, ending: str = "") -> None:
    """Raise a `ConfigError` if a file to be written has no folder, another ending, or is one that is read.

    Args:
        option: that names the file.
        path: the file; a pipe or a device may have any ending.
        read: files and folders that are read, or other things, or None.
        ending: of its name; empty where any will do.
    """
    check_folder(option, path)
    if not path.name.endswith(ending) and not (path.exists() and not path.is_file()):
        raise ConfigError(f"{option} {path}: expected a name that ends in {ending}")
    for one in (expand(one) for one in read if one is not None and path.is_file()):
        if (one.is_file() and path.samefile(one)) or (one.is_dir() and path.resolve().is_relative_to(one.resolve())):
            raise ConfigError(f"{option} {path} is a file that is read, and would be lost: name another")


def expand(path: str | os.PathLike) -> Path:
    """Return the path with a leading `~` or `~name` expanded to the home folder, as a shell does, where there is one.

    Raises:
        ConfigError: for a name that is too long to be one of a file, or holds the character NUL.

    >>> expand("models/~").as_posix()
    'models/~'
    """
    if max((len(part.encode(errors="replace")) for part in Path(path).parts), default=0) > LONGEST_NAME:
        raise ConfigError(f"{shorten(str(path))} is too long for the name of a file or a folder")
    if "\0" in str(path):
        raise ConfigError(f"{shorten(str(path))} holds the character NUL, which no name of a file can have")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def write_atomically(path: Path, write: Callable[[Path], object], *, shared: bool = False) -> None:
    """Let `write` write a file beside `path`, flush it to the disk and move it there: nobody ever reads half of it.

    The file has the permissions of any new one, whatever `write` gave it (safetensors lets the owner alone read). Where
    this fails, the old file stays, the new one is removed, and the error is raised.

    Args:
        path: the file; its folder is made if missing.
        write: writes the file that it is handed.
        shared: whether several processes may write this file at once; each then writes one of its own beside it.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part" if shared else f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(beside, "wb") as file:
            mode = os.fstat(file.fileno()).st_mode
        write(beside)
        os.chmod(beside, stat.S_IMODE(mode))
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def write_output(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file that a user names: as `write_atomically`, but into a pipe or a device itself."""
    if path.exists() and not path.is_file():
        write(path)
    else:
        write_atomically(path, write)


def check_number(**values: Any) -> None:
    """Raise a `ConfigError` unless each value is a number; its range is the caller's to check.

    >>> check_number(temperature="1")
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: temperature = '1': expected a number
    """
    for name, value in values.items():
        if not isinstance(value, Real):
            raise ConfigError(f"{name} = {shorten(value)}: expected a number")


def check_positive(**values: Any) -> None:
    """Raise a `ConfigError` unless each value is a finite number above 0.

    >>> check_positive(scale=0)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: scale = 0: expected a number above 0
    """
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise ConfigError(f"{name} = {shorten(value)}: expected a number above 0")


def check_probability(**values: Any) -> None:
    """Raise a `ConfigError` unless each value is a number from 0 to 1.

    >>> check_probability(dropout=1.5)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: dropout = 1.5: expected a number from 0 to 1
    """
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 <= float(value) <= 1:
            raise ConfigError(f"{name} = {shorten(value)}: expected a number from 0 to 1")


def check_text(name: str, given: Any) -> None:
    """Raise a `ConfigError` unless `given` is a sentence, a str.

    Args:
        name: of the argument.
        given: its value.

    >>> check_text("sentences[1]", None)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: sentences[1] is None: expected a sentence (str); leave out what is missing
    """
    if isinstance(given, str):
        return
    kind = type(given).__name__
    if given is None or (isinstance(given, Real) and given != given) or kind in ("NAType", "NaTType"):
        what, hint = shorten(given), "leave out what is missing"
    elif isinstance(given, bytes | bytearray):
        what, hint = kind, "write sentence.decode()"
    elif isinstance(given, list | tuple) and given and all(isinstance(token, str) for token in given):
        few = len(given) == 1
        what, hint = f"a {kind} of {len(given)} texts", "write the text alone" if few else 'write " ".join(tokens)'
    else:
        what, hint = f"{kind} {shorten(given)}", "write str(...) if it stands for a text"
    raise ConfigError(f"{name} is {what}: expected a sentence (str); {hint}")


def read_texts(sentences: Iterable[str]) -> list[str]:
    """Return the sentences as a list.

    Raises:
        ConfigError: for a single string, an object that cannot be iterated, or an item that is no string.
    """
    if isinstance(sentences, str | bytes):
        raise ConfigError("one string was given where a list of sentences is expected: write [sentence]")
    if not isinstance(sentences, Iterable):
        raise ConfigError(f"{shorten(sentences)} was given where a list of sentences is expected: write [sentence]")
    texts = list(sentences)
    for place, text in enumerate(texts):
        check_text(f"sentences[{place}]", text)
    return texts
