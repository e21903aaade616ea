"""Files of recipes: TOML with the options of each model that `seqvae compare` trains."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from seqvae.config import Config, Data, Training
from seqvae.errors import ConfigError, choose
from seqvae.text_vae import TextVAE

SECTIONS = {"model", "objective"}  # tables of options; the others are recipes


@dataclass(frozen=True)
class Budget:
    """Which recipes are trained, how often and for how long.

    Attributes:
        seeds: number of trainings of each recipe.
        minutes: of each training, in place of the recipe's; None keeps them.
        epochs: likewise.
        only: names of recipes; empty = all.
    """

    seeds: int = 1
    minutes: float | None = None
    epochs: int | None = None
    only: Sequence[str] = ()


def plan(paths: Sequence[Path], corpus: str, budget: Budget) -> list[tuple[str, Config]]:
    """Return the name and the options of each training: all recipes with the first seed, then with the next.

    Args:
        paths: TOML files with options named as for `--config`. A table of another name is a recipe; options outside
            such tables hold for all recipes of the file, or are themselves the one recipe, named like the file.
        corpus: that all of them are trained on.
        budget: the number and the length of the trainings.

    Raises:
        ConfigError: for a file that is missing, not TOML or without recipes, for two recipes of one name, for an
            unknown name in `budget.only`, and for invalid options.
    """
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in paths:
        for name, values in _read_tables(path).items():
            if name in found:
                raise ConfigError(f"two recipes have the name {name}, in {found[name][0]} and {path}: rename one")
            found[name] = path, values
    for name in budget.only:
        choose("recipe", name, found)
    configs = {}
    for name, (path, values) in found.items():
        if budget.only and name not in budget.only:
            continue
        try:
            config = Config.from_dict(_sort_into_sections(values) | {"corpus": corpus})
            limits = {"max_minutes": budget.minutes, "max_epochs": budget.epochs}
            given: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
            configs[name] = TextVAE.resolve(replace(config, training=replace(config.training, **given)))
        except ConfigError as error:
            raise ConfigError(f"recipe {name} of {path}: {error}") from None
    return [
        (name, replace(config, training=replace(config.training, seed=seed)))
        for seed in range(budget.seeds)
        for name, config in configs.items()
    ]


def _read_tables(path: Path) -> dict[str, dict[str, Any]]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}: expected a TOML file with a table for each recipe") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None
    tables = {name: value for name, value in values.items() if isinstance(value, dict) and name not in SECTIONS}
    shared = {name: value for name, value in values.items() if name not in tables}
    if not tables and not SECTIONS & shared.keys():
        raise ConfigError(f'{path} has no recipe: expected a table for each, as [language-model] with kind = "lm"')
    return {name: merge(shared, value) for name, value in tables.items()} or {path.stem: shared}


def merge(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge options, `own` first; a part with a name of its own takes no options from a shared part of another name.

    >>> merge({"a": 1, "prior": {"name": "mixture", "components": 9}}, {"prior": {"name": "normal"}})
    {'a': 1, 'prior': {'name': 'normal'}}
    """
    both = {**shared, **own}
    for name in shared.keys() & own.keys():
        base, given = shared[name], own[name]
        if isinstance(base, Mapping) and isinstance(given, Mapping) and given.get("name") in (None, base.get("name")):
            both[name] = merge(base, given)
    return both


def _sort_into_sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sort options, named as in a --config file, into the sections of a `Config`."""
    flat = {field.name: group.__name__.lower() for group in (Data, Training) for field in fields(group)}
    found: dict[str, Any] = {"data": {}, "training": {}}
    for written, value in values.items():
        name = written.replace("-", "_")
        choose("option", name, [*flat, "kind", "target_kl", "target_by", "model", "objective"])
        target = found[flat[name]] if name in flat else found
        target[name] = value
    return found
