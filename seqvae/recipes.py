"""A file of recipes: a TOML table of options for each model that `seqvae compare` trains."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from seqvae.build import resolve_all
from seqvae.config import Config, Data, Training
from seqvae.errors import ConfigError, choose


def plan(path: Path, corpus: str, seeds: int, minutes: float | None) -> list[tuple[str, Config]]:
    """The name and the options of each training: all recipes with the first seed, then with the next.

    Args:
        path: a TOML file with a table for each recipe, in which options are named as for `--config`; those before the
            first table hold for all recipes.
        corpus: what all of them are trained on.
        seeds: how many trainings each recipe gets.
        minutes: of each training, in place of what the recipe says.

    Raises:
        ConfigError: for a file that is missing, no TOML, or without recipes, and for options that cannot be.
    """
    planned = []
    for seed in range(seeds):
        for name, values in _tables(path).items():
            try:
                config = Config.from_dict(_sections(values) | {"corpus": corpus})
                longest = config.training.max_minutes if minutes is None else minutes
                training = replace(config.training, seed=seed, max_minutes=longest)
                planned.append((name, resolve_all(replace(config, training=training))))
            except ConfigError as error:
                raise ConfigError(f"recipe {name} of {path}: {error}") from None
    return planned


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}: expected a TOML file with a table for each recipe") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None
    shared = {name: value for name, value in values.items() if not isinstance(value, dict)}
    tables = {name: shared | value for name, value in values.items() if isinstance(value, dict)}
    if not tables:
        raise ConfigError(f'{path} has no recipe: expected a table for each, as [language-model] with kind = "lm"')
    return tables


def _sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a --config file has them, in the sections of a `Config`."""
    flat = {field.name: group.__name__.lower() for group in (Data, Training) for field in fields(group)}
    found: dict[str, Any] = {"data": {}, "training": {}}
    for written, value in values.items():
        name = written.replace("-", "_")
        choose("option", name, [*flat, "kind", "target_kl", "target_by", "model", "objective"])
        target = found[flat[name]] if name in flat else found
        target[name] = value
    return found
