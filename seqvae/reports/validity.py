"""Validity of strings of symbols: the fractions of samples that are valid by a function of the user's, unique, novel.

The fractions are those of the literature on molecules as strings: valid among all, unique among the valid, novel among
the unique valid. Strings are compared as they are: two spellings of one molecule count as two.

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
QUOTED = 200  # characters of a string in an error, at most


def load_validator(name: str) -> Validator:
    """Import the function that `package.module:function` names.

    Raises:
        ConfigError: for a name of another form, and for what cannot be imported or called.

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
        raise ConfigError(f"--validator {name}: {module} cannot be imported ({_format_error(error)}){hint}") from None
    try:
        validator = getattr(found, function)
    except Exception as error:
        raise ConfigError(f"--validator {name}: {module} has no function {function} ({_format_error(error)})") from None
    if not callable(validator):
        kind = type(validator).__name__
        raise ConfigError(f"--validator {name} is of type {kind}: expected a function that takes a string")
    return validator


def check_texts(name: str, validator: Validator, texts: Iterable[str]) -> list[bool]:
    """Return whether each text is valid: whether the truth value of the validator's result is true.

    Args:
        name: of the validator, for the error.
        validator: called once with each distinct text.
        texts: to be checked.

    Raises:
        ConfigError: if the validator raises, or its result has no truth value.
    """
    known: dict[str, bool] = {}
    verdicts = []
    for text in texts:
        if text not in known:
            try:
                with redirect_stdout(sys.stderr):
                    known[text] = bool(validator(text))
            except (Exception, SystemExit) as error:
                quoted = repr(text) if len(text) <= QUOTED else f"{text[:QUOTED]!r}..."
                wanted = "expected true or false for every string"
                raise ConfigError(f"--validator {name} failed on {quoted} ({_format_error(error)}): {wanted}") from None
        verdicts.append(known[text])
    return verdicts


@dataclass(frozen=True)
class Validity:
    """Counts of samples.

    Attributes:
        samples: all.
        valid: among the samples.
        unique: distinct strings among the valid.
        novel: those of the unique that are not in the training data; None if that is not known.
    """

    samples: int
    valid: int
    unique: int
    novel: int | None

    def __str__(self) -> str:
        fractions = {
            "valid": _format_fraction(self.valid, self.samples),
            "unique among the valid": _format_fraction(self.unique, self.valid),
            "novel among the unique valid": _format_fraction(self.novel, self.unique),
        }
        return ", ".join(f"{name} {fraction}" for name, fraction in fractions.items())


def count(texts: Sequence[str], valid: Sequence[bool], training: Iterable[str] | None) -> Validity:
    """Count valid, unique and novel samples.

    Args:
        texts: the samples.
        valid: whether each is valid.
        training: the training strings, read once; None if they cannot be read.

    >>> print(count(["()", "()", "(", "(())"], [True, True, False, True], ["()"]))
    valid 0.750 (3 of 4), unique among the valid 0.667 (2 of 3), novel among the unique valid 0.500 (1 of 2)
    """
    unique = {text for text, good in zip(texts, valid, strict=True) if good}
    novel = None if training is None else len(unique.difference(training))
    return Validity(len(texts), sum(valid), len(unique), novel)


def _format_fraction(part: int | None, whole: int) -> str:
    if part is None:
        return "not known"
    return f"{part / whole:.3f} ({part:,} of {whole:,})" if whole else "not known (there are none)"


def _format_error(error: BaseException) -> str:
    """Format an error as one line."""
    lines = str(error).split("\n")
    return f"{type(error).__name__}: {lines[0].strip()}" if lines[0].strip() else type(error).__name__
