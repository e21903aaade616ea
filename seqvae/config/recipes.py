"""Recipes: files of TOML with options, of the user's own or by the name of one in the package.

The recipes of the package are the folder `configs` of the repository, which an installed package has as `recipes`.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqvae.config.options import Model, Objective
from seqvae.config.parts import complete, read_part
from seqvae.errors import ConfigError, choose, expand

PACKAGE = Path(__file__).parents[1]
SECTIONS = {"model": Model, "objective": Objective}  # tables of options; other tables of a file are recipes to compare


@dataclass(frozen=True)
class Recipe:
    """A recipe of the package.

    Attributes:
        name: of the file, without its ending.
        path: the file.
        year: of the publication that it follows; empty where it follows none.
        source: the authors and the address of that publication; `ours` where there is none.
        summary: what it is, a line.
        command: how it is used: `train`, or `compare` for a file of several recipes.
    """

    name: str
    path: Path
    year: str
    source: str
    summary: str
    command: str


def list_recipes() -> list[Recipe]:
    """List the recipes of the package, those to train first, by name."""
    recipes = [_describe(path) for path in sorted(_find_folder().glob("*.toml"))]
    return sorted(recipes, key=lambda recipe: recipe.command != "train")


def find_recipe(name: str | Path) -> Path:
    """Return the file of a recipe: the one of that name where there is one, else that of the package.

    Raises:
        ConfigError: if there is neither.
    """
    path = expand(name)
    if path.is_file():
        return path
    known = {recipe.name: recipe.path for recipe in list_recipes()}
    stem, ours = path.name.removesuffix(".toml"), path.parent in (Path(), Path("configs"))  # as in the repository
    if not ours or (path.suffix and stem not in known):
        raise ConfigError(
            f"--config {path}: no such file; expected a TOML file with options, or a name of `seqvae recipes`"
        )
    return known[choose("recipe", stem, known)]


def locate_comparison(source: str, other: Collection[str] = ()) -> str:
    """Return the file of the recipe that `seqvae compare` means by this name; any other source as it is.

    Args:
        source: what was given.
        other: names that mean something else there, such as a corpus, though a recipe has the same.

    Raises:
        ConfigError: for what is no path and nearly the name of a recipe.
    """
    path = expand(source)
    if path.exists() or source in other or path.name != source:
        return source
    known = {recipe.name: recipe.path for recipe in list_recipes() if recipe.name not in other}
    near = difflib.get_close_matches(source, known, n=1, cutoff=0.8)
    return str(known[choose("recipe", source, known)]) if near else source


def read_options(name: str | Path) -> dict[str, Any]:
    """Read the options of a recipe to train, as `--config` takes it.

    Raises:
        ConfigError: if there is no such recipe, or it is no TOML.
    """
    path = find_recipe(name)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"--config {path} cannot be read as TOML: {error}") from None


def add_recipe(name: str | Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by name, as `TextVAE.fit` takes them, with those of a recipe beneath them.

    A part of the same name is completed by what the recipe says of it, as on the command line.

    >>> add_recipe("bnvae2020", {"latent": 8, "posterior": {"gamma": 0.5}})["posterior"]
    {'name': 'batch-norm', 'gamma': 0.5}
    """
    found = {written.replace("-", "_"): value for written, value in read_options(name).items()}
    if any(isinstance(value, dict) and key not in SECTIONS for key, value in found.items()):
        raise ConfigError(f"config = {str(name)!r} holds several recipes: compare them with `seqvae compare {name}`")
    defaults: dict[str, Any] = {}
    for section, group in SECTIONS.items():
        found |= {key.replace("-", "_"): value for key, value in found.pop(section, {}).items()}
        defaults |= {key: default for key, default in vars(group()).items() if isinstance(default, dict)}
    for key, given in options.items():
        part, below = (read_part(value) if key in defaults else None for value in (given, found.get(key)))
        both = part is not None and below is not None
        found[key] = complete(part, complete(below, defaults[key])) if both else given  # type: ignore[arg-type]
    return found


def _find_folder() -> Path:
    """Return the folder of the recipes: in an installed package its own, in a clone `configs` beside it."""
    installed = PACKAGE / "recipes"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def _describe(path: Path) -> Recipe:
    """Read what the comment at the top of a file says: `Authors, Title, year, address: summary.`, or only a summary."""
    text = path.read_text(encoding="utf-8")
    lines = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    comment = " ".join(line for line in lines if not line.startswith("seqvae ")).removeprefix("Ours: ")
    year, source, rest = "", "ours", comment.replace(", for `seqvae compare`", "")
    address = re.search(r", (\d{4}), (https://\S+?)(?: \([^)]*\))?[:,]? ", comment)
    if address is not None and ". " not in comment[: address.start()]:  # else it is that of another sentence
        first = re.split(r", | & | et al", comment)[0]
        year, source, rest = address[1], f"{first} et al., {address[2]}", comment[address.end() :]
    summary = re.split(r"(?<=[\w`])[.:;] ", rest, maxsplit=1)[0].rstrip(".:")
    command = "compare" if f"seqvae compare configs/{path.name}" in text else "train"
    return Recipe(path.stem, path, year, source, summary, command)
