"""What a caller hands over: numbers, seeds, sentences and points, each taken as meant or refused in one line."""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqvae.errors import ConfigError

Points = Tensor | np.ndarray | Sequence[Sequence[float]]  # (R, D)

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


def read_points(z: Points, size: int, like: Tensor) -> Tensor:
    """Return (R, size) points in the precision and on the device of `like`.

    Args:
        z: a tensor, an array, or a list of rows of numbers.
        size: D.
        like: a tensor of the model.

    Raises:
        ConfigError: for another shape, and for what is not a number or not finite.

    >>> read_points([[1, 2], [3, 4]], 2, torch.zeros(()))
    tensor([[1., 2.],
            [3., 4.]])
    """
    wanted = f"expected numbers of shape (rows, {size})"
    if not isinstance(z, Tensor):
        rows: Any = z
        if isinstance(z, list | tuple):
            rows = [row.detach().cpu().numpy() if isinstance(row, Tensor) else row for row in z]
        try:
            array = np.asarray(rows)
        except (TypeError, ValueError):
            raise ConfigError(f"z is a {type(z).__name__} of rows of different kinds or lengths: {wanted}") from None
        if array.dtype.kind not in "fiu":
            raise ConfigError(f"z is {shorten(z)}: {wanted}, such as the mode of what encode returns")
        z = torch.from_numpy(array.astype(np.float64))
    if z.is_complex() or z.dtype == torch.bool:
        raise ConfigError(f"z holds {str(z.dtype).removeprefix('torch.')}: {wanted}")
    if z.dim() != 2 or z.shape[1] != size:
        hint = "; write z[None] for one point" if tuple(z.shape) == (size,) else ""
        raise ConfigError(f"z has shape {tuple(z.shape)}: {wanted}{hint}")
    z = z.detach().to(like)
    if len(wrong := (~z.isfinite().all(1)).nonzero()):
        raise ConfigError(f"row {int(wrong[0])} of z holds values that are not finite in {str(z.dtype)[6:]}: {wanted}")
    return z


def shorten(value: Any) -> str:
    """Return a value as an error shows it, in one line and short.

    >>> shorten([1] * 99)
    'list [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,...'
    """
    text = " ".join(repr(value).split())
    kind = "" if isinstance(value, str | int | float | complex | None) else f"{type(value).__name__} "
    return kind + (text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}...")
