"""Parts of a user's own: what is stored of a class or an instance from outside the catalogues, and how it comes back.

A model folder holds the import path and the options of such a part, never its code, and nothing is imported because a
folder names it: the user hands the class over again.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any

from torch import nn

from seqvae.config import Config, OwnPart, Part, get_import_path
from seqvae.errors import CheckpointError, ConfigError, truncate

# The arguments of a constructor that the neighbours decide; all others are options.
SIZES = frozenset(
    ("latent", "embedding", "vocabulary", "channels", "features", "sentences", "embed", "encoder", "posterior")
)
MODULES = {"encoder", "posterior"}  # those that are parts of the model themselves
PLAIN = (bool, int, float, str, type(None))


def get_parameters(cls: Any) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a class or function, annotations as types even where they are written as text."""
    try:
        parameters = inspect.signature(cls, eval_str=True).parameters
    except NameError:  # an annotation that is imported for type checkers alone
        parameters = inspect.signature(cls).parameters
    return {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def find_options(cls: Any) -> dict[str, inspect.Parameter]:
    """Return the options of a class: the arguments of its constructor that are no `SIZES`."""
    return {name: parameter for name, parameter in get_parameters(cls).items() if name not in SIZES}


def import_part(path: str) -> Any:
    """Import `module:name`, from the current folder too. Only for paths that the user has written.

    Raises:
        ConfigError: if there is no such module, it fails, or nothing of that name is in it.
    """
    module, _, name = path.partition(":")
    with look_in_current_folder():
        try:
            found: Any = importlib.import_module(module)
            for attribute in name.split("."):
                found = getattr(found, attribute)
        except Exception as error:  # whatever the module does when it is imported
            raise ConfigError(
                f"part {path} cannot be imported ({type(error).__name__}: {error}): expected MODULE:CLASS, such as "
                "my_package.parts:MyPrior"
            ) from None
    return found


@contextmanager
def look_in_current_folder() -> Iterator[None]:
    """Import from the current folder too, after all others: a command that is installed does not by itself."""
    folder = os.getcwd()
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)


def adopt(place: str, part: Part, base: type, catalogue: Mapping[str, type]) -> Part:
    """Return a part as the catalogue names it, or with the class or instance that makes it.

    Args:
        place: such as `model.prior`.
        part: as the user gave it; a name with a colon is imported.
        base: the abstract class of the place.
        catalogue: the names of the package's own classes.

    Raises:
        ConfigError: if the part is not of that class, or cannot be stored.
    """
    name = part.get("name")
    if not isinstance(part, OwnPart):
        if not isinstance(name, str) or ":" not in name:
            return part
        part = OwnPart(part, import_part(name))
    if not issubclass(part.cls, base):
        given = part.source.__name__ if isinstance(part.source, type) else f"an instance of {part.cls.__name__}"
        raise ConfigError(f"{place} = {truncate(given)}: expected a {get_import_path(base).replace(':', '.')}")
    names = [known for known, cls in catalogue.items() if cls is part.cls]
    part = part | {"name": names[0] if names else get_import_path(part.cls)}
    if part.is_instance:
        return part | recover_options(place, part.source)
    return dict(part) if names else part


def recover_options(place: str, instance: Any) -> Part:
    """Return the options that an instance was made with.

    These are the attributes that have the names of its constructor's arguments; its attribute `options`, a table, comes
    before them.

    Raises:
        ConfigError: for an argument that is not kept, or not as a plain value: what cannot be stored is refused before
            any training.
    """
    cls = type(instance)
    kept = getattr(instance, "options", None)
    names = find_options(cls)
    found = {name: getattr(instance, name) for name in names if hasattr(instance, name)}
    found |= kept if isinstance(kept, Mapping) else {}
    for name in names:
        if not is_plain(found.get(name, found)):
            raise ConfigError(
                f"{place} = {cls.__name__}(...) cannot be stored: it does not keep its argument {name!r} as a plain "
                f"value; write self.{name} = {name} in its constructor, or self.options = "
                f'{{"{name}": {name}}}, or give the class: {{"name": {cls.__name__}, "{name}": ...}}'
            )
    if needed := MODULES & get_parameters(cls).keys():
        raise ConfigError(
            f"{place} = {cls.__name__}(...) needs the model's {' and '.join(sorted(needed))}, not made yet: give the "
            f"class, {cls.__name__}"
        )
    return {name: found[name] for name in names}


def is_plain(value: Any) -> bool:
    """Return whether JSON and TOML can hold an option: a number, a truth value, a text, None, or a list of these."""
    return type(value) in PLAIN or (isinstance(value, list | tuple) and all(type(item) in PLAIN for item in value))


def copy_instance(place: str, part: OwnPart, sizes: Mapping[str, Any]) -> Any:
    """Return a copy of an instance with its weights; an encoder's embedding is the model's.

    Raises:
        ConfigError: if it cannot be copied.
    """
    try:
        copy = deepcopy(part.source)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{place} = {part['name']} cannot be copied ({error}): give the class") from None
    if "embed" in sizes and isinstance(copy, nn.Module) and hasattr(copy, "embed"):
        copy.embed = sizes["embed"]
    return copy


# -- back from a folder ------------------------------------------------------------------------------------------------


def get_own_parts(config: Config) -> dict[str, type]:
    """Return the classes of the user's own by their place, such as `model.prior`: what a folder needs to be loaded."""
    groups = {"model": config.model, "objective": config.objective}
    return {
        f"{group}.{name}": part.cls
        for group, parts in groups.items()
        for name, part in vars(parts).items()
        if isinstance(part, OwnPart)
    }


Handed = Mapping[str, Any] | Iterable[Any] | type | str  # classes, their import paths, or either by place


def find_source(place: str, name: str, parts: Handed) -> Any | None:
    """Return the class among `parts` for the import path `name` at a place; None if there is none.

    A class matches by its import path, or, where the module has moved, by its own name.
    """
    if isinstance(parts, Mapping):
        candidates = [parts[place]] if place in parts else []
    else:
        candidates = [parts] if isinstance(parts, type | str) else list(parts)
    classes = [import_part(part) if isinstance(part, str) else part for part in candidates]
    if isinstance(parts, Mapping) and classes:
        return classes[0]
    exact = [cls for cls in classes if isinstance(cls, type) and get_import_path(cls) == name]
    short = name.rpartition(":")[2].rpartition(".")[2]
    return next(iter(exact + [cls for cls in classes if getattr(cls, "__name__", None) == short]), None)


def missing_source(folder: str, place: str, name: str) -> CheckpointError:
    """Return the error for a part that the folder names and the user has not handed over."""
    module, _, cls = name.rpartition(":")
    return CheckpointError(
        f"{folder} has a part from outside seqvae, {truncate(f'{place} = {name}')}, which is not imported because a "
        f"file names it: if you trust it, write `from {truncate(module)} import {truncate(cls)}` and "
        f"from_pretrained({folder!r}, parts=[{truncate(cls)}]), in a command --part {truncate(name)}"
    )
