"""Strings of symbols: which samples are valid, by a function of the user's, and how many of these are unique and novel.

The shares are those of the literature on molecules as strings: valid among all, unique among the valid, novel among the
unique valid. Strings are compared as they are written: two spellings of one molecule count as two.

Source: Polykovskiy et al., Molecular Sets (MOSES): A Benchmarking Platform for Molecular Generation Models, 2020,
https://arxiv.org/abs/1811.12823.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

from seqvae.errors import ConfigError

Validator = Callable[[str], object]
SHOWN = 200  # characters of a string that an error quotes, at most


def load_validator(name: str) -> Validator:
    """The function that `package.module:function` names, imported from where Python finds modules.

    Raises:
        ConfigError: for a name of another form, what cannot be imported, and what cannot be called.

    >>> load_validator("keyword:iskeyword")("lambda")
    True
    """
    module, colon, function = name.partition(":")
    if not (colon and all(part.isidentifier() for part in (*module.split("."), function))):
        raise ConfigError(f"--validator {name}: expected package.module:function")
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results
            found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}.")
        hint = "; a file of this folder is found with PYTHONPATH=. before the command" if missing else ""
        raise ConfigError(f"--validator {name}: {module} cannot be imported ({_reason(error)}){hint}") from None
    try:
        validator = getattr(found, function)
    except Exception as error:
        raise ConfigError(f"--validator {name}: {module} has no function {function} ({_reason(error)})") from None
    if not callable(validator):
        kind = type(validator).__name__
        raise ConfigError(f"--validator {name} is of type {kind}: expected a function that takes a string")
    return validator


def judged(name: str, validator: Validator, texts: Iterable[str]) -> list[bool]:
    """Whether each text is valid: whether what the validator returns counts as true.

    Args:
        name: of the validator, for the error.
        validator: called once with each distinct text.
        texts: what is judged.

    Raises:
        ConfigError: if the validator raises, or returns what is neither true nor false.
    """
    known: dict[str, bool] = {}
    verdicts = []
    for text in texts:
        if text not in known:
            try:
                with redirect_stdout(sys.stderr):
                    known[text] = bool(validator(text))
            except (Exception, SystemExit) as error:
                quoted = repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}..."
                wanted = "expected true or false for every string"
                raise ConfigError(f"--validator {name} failed on {quoted} ({_reason(error)}): {wanted}") from None
        verdicts.append(known[text])
    return verdicts


@dataclass(frozen=True)
class Validity:
    """Counts of samples.

    Attributes:
        samples: all of them.
        valid: those that are valid.
        unique: different ones among the valid.
        novel: those of the unique that do not stand among the training strings; None where these are not known.
    """

    samples: int
    valid: int
    unique: int
    novel: int | None

    def __str__(self) -> str:
        shares = {
            "valid": _share(self.valid, self.samples),
            "unique among the valid": _share(self.unique, self.valid),
            "novel among the unique valid": _share(self.novel, self.unique),
        }
        return ", ".join(f"{name} {share}" for name, share in shares.items())


def count(texts: Sequence[str], valid: Sequence[bool], training: Iterable[str] | None) -> Validity:
    """Count what is valid, unique and novel.

    Args:
        texts: the samples.
        valid: whether each is valid.
        training: the strings that the model was trained on, read once; None if they cannot be read.

    >>> print(count(["()", "()", "(", "(())"], [True, True, False, True], ["()"]))
    valid 0.750 (3 of 4), unique among the valid 0.667 (2 of 3), novel among the unique valid 0.500 (1 of 2)
    """
    unique = {text for text, good in zip(texts, valid, strict=True) if good}
    novel = None if training is None else len(unique.difference(training))
    return Validity(len(texts), sum(valid), len(unique), novel)


def _share(part: int | None, whole: int) -> str:
    if part is None:
        return "not known"
    return f"{part / whole:.3f} ({part:,} of {whole:,})" if whole else "not known (there are none)"


def _reason(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).split("\n")
    return f"{type(error).__name__}: {lines[0].strip()}" if lines[0].strip() else type(error).__name__
