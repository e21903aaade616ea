"""Where trainings live: `runs/NAME-1`, `runs/NAME-2`, ...; none is ever overwritten."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seqvae.config import Config, to_toml
from seqvae.data.series.sources import ARRAYS
from seqvae.data.text.files import FORMATS, bare
from seqvae.errors import CheckpointError, ConfigError
from seqvae.training.checkpoint import CONFIG, METRICS, STATE, write

RUNS = Path("runs")
RECIPE = "recipe.toml"
RESOLVED = Path("resume") / "config.json"


def fresh(folder: Path) -> Path:
    """The folder, if a model can go there without overwriting anything.

    Raises:
        ConfigError: if something stands there already.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder} is a file: name a folder that does not exist yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: name another folder, or write --resume to go on with the run in it")
    return folder


def new(corpus: str, within: Path = RUNS) -> Path:
    """The next free `runs/NAME-N` for a corpus."""
    name = bare(Path(corpus).name)
    name = Path(name).stem if Path(name).suffix.lower() in (*FORMATS, *ARRAYS) else name
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "corpus"
    taken = [int(m[1]) for p in within.glob(f"{name}-*") if (m := re.fullmatch(rf"{re.escape(name)}-(\d+)", p.name))]
    return within / f"{name}-{max(taken, default=0) + 1}"


def newest() -> Path:
    """The run below `runs` that was started last.

    Raises:
        CheckpointError: if there is none.
    """
    folders = sorted(RUNS.glob(f"*/{RESOLVED}"), key=lambda path: path.stat().st_mtime)
    if not folders:
        raise CheckpointError(f"nothing to resume below {RUNS}: name the folder of the run with --output")
    return folders[-1].parent.parent


@contextmanager
def claimed(folder: Path, config: Config) -> Iterator[None]:
    """Make the folder of a run and write its options there; leave none where what follows fails with nothing to keep.

    Raises:
        ConfigError: if something stands there already, or the folder cannot be made.
    """
    try:
        made = [path for path in (fresh(folder), *folder.parents) if not path.exists()]  # the innermost first
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--output {folder} cannot be made ({error.strerror}): name a folder in a place that can be written"
        ) from None
    try:
        begin(folder, config)
        yield
    except BaseException:
        if not any((folder / name).exists() for name in (CONFIG, STATE, METRICS)):
            clear(folder, made)
        raise


def clear(folder: Path, made: Iterable[Path]) -> None:
    """Remove all that stands in a folder that was empty, then the folders that were made for it."""
    with suppress(OSError):
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path in made:
            path.rmdir()


def begin(folder: Path, config: Config) -> None:
    """Write down the options of a run before it starts."""
    write(folder / RECIPE, lambda path: path.write_text(to_toml(config), encoding="utf-8"))
    write(folder / RESOLVED, lambda path: path.write_text(json.dumps(config.to_dict()), encoding="utf-8"))


def options_of(folder: Path) -> Config:
    """The options that the run in `folder` was started with.

    Raises:
        CheckpointError: if no run was started there, or its notes are damaged.
    """
    try:
        return Config.from_dict(json.loads((folder / RESOLVED).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(f"nothing to resume in {folder}: no run was started there") from None
    except ConfigError as error:
        raise CheckpointError(f"{folder / RESOLVED} is damaged or of another version: {error}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise CheckpointError(f"{folder / RESOLVED} is damaged: the run cannot be resumed") from None


def has_state(folder: Path) -> bool:
    """Whether the run got as far as its first saved state."""
    return (folder / STATE).is_file() and (folder / CONFIG).is_file()
