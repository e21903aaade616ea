"""Parts: the name of an implementation and its options; and the types that an option is given in."""

from contextlib import suppress
from dataclasses import field, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from seqvae.errors import ConfigError, choose, truncate

Part = dict[str, Any]  # the `name` of an implementation, and its options


# -- parts -------------------------------------------------------------------------------------------------------------


class OwnPart(dict[str, Any]):
    """A part that is a class or an instance of the user's own, from outside the catalogues.

    As a table it is `{"name": "my_package.parts:MyPrior", "scale": 2.0}`: the import path and the options, which is all
    that is stored of it. The source is never stored, and never imported from what is stored.

    Attributes:
        source: the class, or the instance, that the user has handed over.
    """

    def __init__(self, values: Any = (), source: Any = None) -> None:
        super().__init__(values)
        self.source = source

    @property
    def cls(self) -> type:
        """The class, of an instance too."""
        return self.source if isinstance(self.source, type) else type(self.source)

    @property
    def is_instance(self) -> bool:
        """Whether an instance was given, which brings its own weights."""
        return not isinstance(self.source, type)

    def __or__(self, other: dict[str, Any]) -> "OwnPart":  # type: ignore[override]
        """Return the part with other options, and the same source."""
        return OwnPart({**self, **other}, self.source)


class OwnTokenizer(str):
    """The name `given`, which is all that is stored, and the tokenizer that the user has handed over as an object.

    Attributes:
        source: the object.
    """

    source: Any

    @classmethod
    def wrap(cls, source: Any) -> "OwnTokenizer":
        """Return the name of a tokenizer that is an object."""
        name = cls("given")
        name.source = source
        return name


def get_import_path(cls: type) -> str:
    """Return `module:name`, by which a class can be imported.

    >>> get_import_path(ConfigError)
    'seqvae.errors:ConfigError'
    """
    return f"{cls.__module__}:{cls.__qualname__}"


def read_part(value: Any) -> Part | None:
    """Return the table of a part that is given as a table, a name, a class or an instance; None for anything else.

    >>> read_part("mixture"), read_part({"name": "mixture", "components": 50}), read_part(3)
    ({'name': 'mixture'}, {'name': 'mixture', 'components': 50}, None)
    """
    if isinstance(value, OwnPart):
        return value
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict):
        cls = value.get("name")
        return OwnPart({**value, "name": get_import_path(cls)}, cls) if isinstance(cls, type) else dict(value)
    if isinstance(value, type):
        return OwnPart({"name": get_import_path(value)}, value)
    package = type(value).__module__.partition(".")[0]
    if callable(value) and package not in ("builtins", "functools", "numpy", "torch"):
        return OwnPart({"name": get_import_path(type(value))}, value)
    return None


def complete(given: Part, default: Part) -> Part:
    """Return `given` over the default part, whose options count only for the part of that name.

    A length given in steps takes the place of a default one that is a fraction of the training.

    >>> complete({"rate": 0.5}, {"name": "word-dropout", "rate": 0.3})
    {'name': 'word-dropout', 'rate': 0.5}
    >>> complete({"name": "constant"}, {"name": "linear", "steps": 9})
    {'name': 'constant'}
    >>> complete({"steps": 500}, {"name": "linear", "end": 0.5, "fraction": 0.3})
    {'name': 'linear', 'end': 0.5, 'steps': 500}
    """
    if isinstance(given, OwnPart):
        return given
    given = {str(name).replace("-", "_"): value for name, value in given.items()}  # as on the command line
    same = str(given.get("name", default["name"])) == default["name"]
    if "steps" in given and "fraction" not in given:
        default = {name: value for name, value in default.items() if name != "fraction"}
    return {**default, **given} if same else given


def default_part(name: str, **options: Any) -> Any:
    """Make a field whose default is the part `name` with these options."""
    return field(default_factory=lambda: {"name": name, **options})


# -- types -------------------------------------------------------------------------------------------------------------


def convert(value: Any, annotation: Any, name: str, *, words: bool = False) -> Any:
    """Return `value` as the type of the option `name`.

    A number of NumPy or torch becomes one of Python. A list stands for a tuple, which JSON and TOML do not have.

    Args:
        value: as a command line, TOML, JSON or Python gives it.
        annotation: the type: int, float, bool, str, `Literal`, `Part`, a tuple of texts, or a union of these.
        name: of the option, for the error.
        words: whether a text may be read as a number, a truth value or None, as on a command line.

    Raises:
        ConfigError: if it has another type.

    >>> convert("3", int, "layers", words=True), convert("none", float | None, "start", words=True)
    (3, None)
    >>> convert("3", int, "latent")
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: option latent = '3': expected a whole number
    """
    value = value.item() if getattr(value, "shape", None) == () else value
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if words and NoneType in kinds and (value is None or str(value).lower() == "none"):
        return None
    for kind in kinds:
        origin = get_origin(kind)
        if origin is Literal:
            return choose(f"value of {name}", str(value), get_args(kind))
        if origin is dict:
            if (part := read_part(value)) is not None:
                return part
        elif origin is tuple:
            if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
                return tuple(value)
        elif words and kind in (int, float, bool):
            with suppress(ValueError):
                return parse_bool(str(value)) if kind is bool else kind(str(value).lower())
        elif words and kind is not NoneType:
            return value  # a text, or what the class of a part has its own check for
        elif isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) <= (kind is bool):
            return value
    expected = " or ".join(name_type(kind) for kind in kinds if kind is not NoneType or not words)
    raise ConfigError(f"option {name} = {truncate(value if words else repr(value))}: expected {expected}")


def parse_bool(text: str) -> bool:
    """Return the truth value of a word of the command line.

    Raises:
        ValueError: if it is none.
    """
    if text.lower() not in ("true", "yes", "1", "false", "no", "0"):
        raise ValueError(text)
    return text.lower() in ("true", "yes", "1")


def name_type(kind: Any) -> str:
    """Return the words for a type in an error."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "none"}
    if isinstance(kind, type) and is_dataclass(kind):
        return f"a seqvae.config.{kind.__name__}"
    if get_origin(kind) is tuple:
        return "a list of texts"
    return words.get(kind, "a table such as {name: recurrent}, a name, or a part of your own")
