"""Errors that a user can cause, each one sentence: what was given, what was expected, what to write instead.

Commands print the message of a `SeqVAEError` on one line and exit with code 2; everything else is a bug and keeps its
traceback. The checks of arguments that raise them stand here too.
"""

import difflib
import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
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


SHOWN = 40  # characters of a wrong value that an error shows, at most


def check_whole(least: float = -math.inf, most: float = math.inf, **values: Any) -> None:
    """Raise a `ConfigError` unless each value is a whole number from `least` to `most`.

    >>> check_whole(1, steps=2.5)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: steps = 2.5: expected a whole number, at least 1
    """
    for name, value in values.items():
        if not isinstance(value, Integral) or not least <= int(value) <= most:
            lower = f", at least {least}" if least > -math.inf else ""
            reach = f" from {least} to {most}" if most < math.inf else lower
            raise ConfigError(f"{name} = {shorten(value)}: expected a whole number{reach}")


def check_number(**values: Any) -> None:
    """Raise a `ConfigError` unless each value is a number; which ones can be used is for the caller to say.

    >>> check_number(temperature="1")
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: temperature = '1': expected a number
    """
    for name, value in values.items():
        if not isinstance(value, Real):
            raise ConfigError(f"{name} = {shorten(value)}: expected a number")


def check_text(name: str, given: Any) -> None:
    """Raise a `ConfigError` unless `given` is a sentence, a str.

    Args:
        name: what to call it.
        given: what was handed over.

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
        ConfigError: for one string, what cannot be iterated, or an item that is no text.
    """
    if isinstance(sentences, str | bytes):
        raise ConfigError("one string was given where a list of sentences is expected: write [sentence]")
    if not isinstance(sentences, Iterable):
        raise ConfigError(f"{shorten(sentences)} was given where a list of sentences is expected: write [sentence]")
    texts = list(sentences)
    for place, text in enumerate(texts):
        check_text(f"sentences[{place}]", text)
    return texts


def shorten(value: Any) -> str:
    """Return a value as an error shows it, in one line and short.

    >>> shorten([1] * 99)
    'list [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,...'
    """
    text = " ".join(repr(value).split())
    kind = "" if isinstance(value, str | int | float | complex | None) else f"{type(value).__name__} "
    return kind + (text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}...")
