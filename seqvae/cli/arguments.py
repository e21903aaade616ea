"""What happens to the words of a command line before they are parsed: `-`, and the file that --config names."""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cyclopts
from cyclopts import Token

from seqvae.config import Model, Objective, Part, completed
from seqvae.errors import ConfigError


def stream_last(arguments: list[str]) -> list[str]:
    """`-` (standard input) behind a `--`, for elsewhere it would be taken for an option."""
    if "-" not in arguments or "--" in arguments:
        return arguments
    return [*(argument for argument in arguments if argument != "-"), "--", "-"]


def recipe(arguments: list[str]) -> tuple[Callable[..., None], ...]:
    """The file that --config names, as further arguments that yield to those of the command line."""
    for i, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--config":
            if not (value := value or "".join(arguments[i + 1 : i + 2])):
                continue  # cyclopts says that the option needs a value
            path = Path(value)
            if not path.is_file():
                raise ConfigError(f"--config {path}: there is no such file; expected a TOML file with options")
            try:
                values = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ConfigError(f"--config {path} cannot be read as TOML: {error}") from None
            return Parts(values, str(path)), cyclopts.config.Toml(path, use_commands_as_keys=False)
    return ()


@dataclass(frozen=True)
class Parts:
    """The options of a file for parts of which the command line names others; cyclopts alone would drop them."""

    values: dict[str, Any]
    source: str

    def __call__(self, app: cyclopts.App, commands: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
        """Add the file's options to those parts of which the command line names some."""
        for group, defaults in (("model", Model()), ("objective", Objective())):
            for part, default in vars(defaults).items():
                argument, tables = arguments.get(f"--{group}.{part}"), self.values.get(group)
                table = tables.get(part) if isinstance(tables, dict) else None
                if argument is not None and isinstance(default, dict) and isinstance(table, dict):
                    self._merge(argument, table, default)

    def _merge(self, argument: cyclopts.Argument, table: Part, default: Part) -> None:
        given = {token.keys[0]: token.value for token in argument.tokens if token.keys}
        whole = completed(given, completed(table, default))
        for key in (key for key in table if given and key in whole and key not in given):
            argument.append(Token(keyword=key, value=str(table[key]), source=self.source, keys=(key,)))
