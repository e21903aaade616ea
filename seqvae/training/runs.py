"""Folders of runs: `runs/NAME-1`, `runs/NAME-2`, ... None is ever overwritten."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seqvae.config import Config, to_toml
from seqvae.data.series.sources import ARRAYS
from seqvae.data.text.files import FORMATS, strip_compression
from seqvae.errors import CheckpointError, ConfigError
from seqvae.training.checkpoint import CONFIG, METRICS, STATE, write

RUNS = Path("runs")
RECIPE = "recipe.toml"
RESOLVED = Path("resume") / "config.json"


def check_output(folder: Path) -> Path:
    """Return the folder if a model can be written there without overwriting anything.

    Raises:
        ConfigError: if it is a file, or is not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder} is a file: name a folder that does not exist yet")
    if folder.is_dir() and not has_nothing(folder):
        raise ConfigError(f"{folder} is not empty: name another folder, or write --resume to go on with the run in it")
    return folder


def has_nothing(folder: Path) -> bool:
    """Return whether a folder is missing, empty, or has only what a kill leaves before the options are written."""
    if not folder.is_dir():
        return not folder.exists()
    part = RESOLVED.with_name(f".{RESOLVED.name}.part")
    left = {Path(RECIPE), Path(f".{RECIPE}.part"), RESOLVED.parent, part}
    return {path.relative_to(folder) for path in folder.rglob("*")} <= left


def name_folder(corpus: str, within: Path = RUNS) -> Path:
    """Return the next free `runs/NAME-N` for a corpus."""
    name = strip_compression(Path(corpus).name)
    name = Path(name).stem if Path(name).suffix.lower() in (*FORMATS, *ARRAYS) else name
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "corpus"
    numbers = [int(m[1]) for p in within.glob(f"{name}-*") if (m := re.fullmatch(rf"{re.escape(name)}-(\d+)", p.name))]
    return within / f"{name}-{max(numbers, default=0) + 1}"


def find_newest() -> Path:
    """Return the folder of the run below `runs` that was started last.

    Raises:
        CheckpointError: if there is none.
    """
    folders = sorted(RUNS.glob(f"*/{RESOLVED}"), key=lambda path: path.stat().st_mtime)
    if not folders:
        raise CheckpointError(f"nothing to resume below {RUNS}: name the folder of the run with --output")
    return folders[-1].parent.parent


@contextmanager
def claim(folder: Path, config: Config) -> Iterator[None]:
    """Create the folder of a run and write its options; remove it if the run fails before there is anything to keep.

    Raises:
        ConfigError: if the folder is not empty, or cannot be created.
    """
    try:
        created = [path for path in (check_output(folder), *folder.parents) if not path.exists()]  # the innermost first
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--output {folder} cannot be created ({error.strerror}): name a folder in a place that is writable"
        ) from None
    with lock(folder):
        check_output(folder)  # another training may have begun in it meanwhile
        try:
            write_options(folder, config)
            yield
        except BaseException:
            if not any((folder / name).exists() for name in (CONFIG, STATE, METRICS)):
                remove(folder, created)
            raise


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder: the system's lock on it, which ends with the process, however that ends.

    There is none on Windows, and on file systems that have no locks.

    Raises:
        ConfigError: if another process trains in the folder.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        held = os.open(folder, os.O_RDONLY)
    except OSError:  # not there: whoever needs it says so
        yield
        return
    try:
        with suppress(OSError):
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"another process trains in {folder}: wait for it, or name another folder") from None
        yield
    finally:
        os.close(held)


def remove(folder: Path, created: Iterable[Path]) -> None:
    """Remove the content of a folder that was empty before the run, then the folders that the run created."""
    with suppress(OSError):
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path in created:
            path.rmdir()


def write_options(folder: Path, config: Config) -> None:
    """Write the options of a run, before it starts: as a recipe to read, and for `--resume`."""
    write(folder / RECIPE, lambda path: path.write_text(to_toml(config), encoding="utf-8"))
    write(folder / RESOLVED, lambda path: path.write_text(json.dumps(config.to_dict()), encoding="utf-8"))


def read_options(folder: Path) -> Config:
    """Return the options that the run in `folder` was started with.

    Raises:
        CheckpointError: if no run was started there, or the file is damaged.
    """
    if not (folder / RESOLVED).is_file():
        raise CheckpointError(f"nothing to resume in {folder}: no run was started there; name the corpus to begin one")
    try:
        return Config.from_dict(json.loads((folder / RESOLVED).read_text(encoding="utf-8")))
    except ConfigError as error:
        raise CheckpointError(f"{folder / RESOLVED} is damaged or of another version: {error}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise CheckpointError(f"{folder / RESOLVED} is damaged: the run cannot be resumed") from None


def has_state(folder: Path) -> bool:
    """Return whether the run reached its first saved state."""
    return (folder / STATE).is_file() and (folder / CONFIG).is_file()


def truncate_metrics(path: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl that a killed run wrote after `step`, that of its last saved state."""
    if not path.is_file():
        return
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                lines.append(line)
        except (ValueError, LookupError, TypeError, RecursionError):  # half a line, of the moment of the kill; damage
            break
    write(path, lambda beside: beside.write_text("".join(line + "\n" for line in lines), encoding="utf-8"))
