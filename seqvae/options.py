"""What an option may hold, and how a part that is given in part is completed."""

from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from seqvae.errors import ConfigError, choose, shown

Part = dict[str, Any]  # the `name` of one of a catalogue, and its options


def completed(given: Part, default: Part) -> Part:
    """`given` over the default part; the default's options count only for the part of that name.

    >>> completed({"rate": 0.5}, {"name": "word-dropout", "rate": 0.3})
    {'name': 'word-dropout', 'rate': 0.5}
    >>> completed({"name": "constant"}, {"name": "linear", "updates": 9})
    {'name': 'constant'}
    """
    given = {str(name).replace("-", "_"): value for name, value in given.items()}  # as on the command line
    same = str(given.get("name", default["name"])) == default["name"]
    return {**default, **given} if same else given


def typed(value: Any, annotation: Any, name: str) -> Any:
    """`value`, if it has the type of the option `name`; a list stands for a tuple, which JSON and TOML do not have.

    Raises:
        ConfigError: if it has another type.
    """
    value = plain(value)
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    for kind in options:
        origin = get_origin(kind)
        if origin is Literal:
            return choose(f"value of {name}", str(value), get_args(kind))
        if origin is tuple and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        wanted: Any = {float: (int, float), dict: dict}.get(origin or kind, kind)
        if origin in (None, dict) and isinstance(value, wanted) and (kind is bool or not isinstance(value, bool)):
            return value
    expected = " or ".join(_named(kind) for kind in options)
    raise ConfigError(f"option {name} = {shown(repr(value))}: expected {expected}")


def plain(value: Any) -> Any:
    """A number of NumPy or torch as one of Python; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def _named(kind: Any) -> str:
    """A type as a user would say it."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "none"}
    if isinstance(kind, type) and is_dataclass(kind):
        return f"a seqvae.config.{kind.__name__}"
    return words.get(kind, "a list of texts" if get_origin(kind) is tuple else "a table such as {name: recurrent}")
