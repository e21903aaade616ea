"""Let each write of each command fail in turn: is there one line, and is nothing lost or half-written?

    python -m tests.campaigns.faults

The k-th operation that writes (a file opened for writing, a folder made, a move, a change of permissions, a flush to
the disk) fails, and so does every later one, for k = 1, 2, ... until a command has no further one:

    ENOSPC, EIO, EACCES   the operation raises this error
    short                 the file can be opened, but takes no more than 64 bytes (a limit of the kernel, so that it
                          holds for writers in C++ and Rust too)
    tmpfs                 a small file system with so few pages left that it fills up meanwhile (as root, on Linux)

Each case is a child, forked from a process that has imported everything. When it has ended, its exit code is 2, it has
printed one line, a file is the old one or the new one whole, no other is left behind; and the same command without the
fault (for a training `--resume`) gives what it gives undisturbed, weights bit for bit. Exit code 1 if one does not.
"""

import argparse
import errno
import importlib
import json
import os
import pkgutil
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

LINES = [f"{who} {what} ." for who in ("a cat", "the dog", "one bird", "my cow") for what in ("sat", "ran", "ate")]
SIZE = "--model.latent 2 --model.embedding 4 --model.encoder.hidden 4 --model.decoder.hidden 4"
TRAIN = f"{SIZE} --batch-size 4 --validate-every 2 --precision fp32 --max-epochs"
KINDS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "short": 0, "tmpfs": 0}
SHORT, PAGE, MOST = 64, 4096, 400  # bytes that a file may take; of a tmpfs; cases of a command and a kind, at most
EVENTS = {"os.rename": 1, "os.mkdir": 0, "os.chmod": 0}  # of sys.addaudithook, with the place of the path
TIMEOUT = 60  # seconds of a child


@dataclass(frozen=True)
class Command:
    """A command and what it leaves behind.

    Attributes:
        run: does the work, in the current folder.
        again: does it once more after a fault; None is `run`.
        results: paths that it writes, in the current folder.
        kept: endings of files that may be left behind by a fault, as documented.
    """

    run: Callable[[], None]
    again: Callable[[], None] | None = None
    results: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass
class Tally:
    """The cases of a kind: how many, and what was wrong, a line each."""

    cases: int = 0
    went_on: int = 0
    lines: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    halves: list[str] = field(default_factory=list)


# -- the commands -----------------------------------------------------------------------------------------------------


def call(text: str) -> None:
    """Run a command of the command line."""
    from seqvae.cli import main

    main(text.split())


def train() -> None:
    """Train a model, and its page, into a new folder."""
    call(f"train lines.txt --output new {TRAIN} 2")


def train_again() -> None:
    """Continue the training where it has begun, else begin it."""
    begun = Path("new/resume/config.json").is_file()
    call("train --resume --output new") if begun else train()


def save() -> None:
    """Save another model over one that is there."""
    from seqvae import TextVAE

    try:
        TextVAE.from_pretrained("model").save_pretrained("copy", dtype="bfloat16")
    except Exception as error:  # as the command line shows it, so that the same checks hold
        if type(error).__module__ != "seqvae.errors":
            raise
        print(f"seqvae: {error}", file=sys.stderr)
        sys.exit(2)


def encode_blocks() -> None:
    """Encode a file a block at a time."""
    from seqvae.cli import streaming

    streaming.MANY, streaming.BLOCK = 1, 4
    call("encode model lines.txt --output z.npy")


def list_commands() -> dict[str, Command]:
    """Return the commands by name."""
    resume = partial(call, "train --resume --output model --max-epochs 3")
    return {
        "train": Command(train, train_again, ("new",)),
        "train --resume": Command(resume, None, ("model",)),
        "encode": Command(partial(call, "encode model lines.txt --output z.npy"), None, ("z.npy",)),
        "encode .parquet": Command(partial(call, "encode model lines.txt --output z.parquet"), None, ("z.parquet",)),
        "encode .csv": Command(partial(call, "encode model lines.txt --output z.csv"), None, ("z.csv",)),
        "encode, in blocks": Command(encode_blocks, None, ("z.npy",), ("z.npy.part", "z.npy.state")),
        "encode --projector": Command(partial(call, "encode model lines.txt --projector p"), None, ("p",)),
        "evaluate": Command(
            partial(call, "evaluate model --split train --samples 2 --output scores.json"), None, ("scores.json",)
        ),
        "sample series": Command(partial(call, "sample series --seed 1 --output s.npz"), None, ("s.npz",)),
        "sample --plot": Command(partial(call, "sample series --seed 1 --plot s.svg"), None, ("s.svg",)),
        "explore --export": Command(
            partial(call, "explore model --corpus many.txt --export map.html"), None, ("map.html",)
        ),
        "export": Command(partial(call, "export model graphs"), None, ("graphs",)),
        "save_pretrained": Command(save, None, ("copy",)),
    }


def prepare(folder: Path) -> None:
    """Fill a folder with a corpus, a model of text and one of series, and files that the commands write over."""
    (folder / "lines.txt").write_text("\n".join(LINES * 2) + "\n")
    (folder / "many.txt").write_text("\n".join(f"{who} and {line}" for who in LINES for line in LINES) + "\n")
    for name in ("z.npy", "z.parquet", "z.csv", "scores.json", "s.npz", "s.svg", "map.html"):
        (folder / name).write_text("old")

    def make() -> None:
        call(f"train lines.txt --output model {TRAIN} 1")
        call("train curves --output series --model.latent 2 --model.encoder.hidden 4 --model.decoder.hidden 4 "
             "--precision fp32 --max-epochs 1 --validate-every 2 --max-minutes 0.001")  # fmt: skip
        shutil.copytree("model", "copy")

    code, _, err = fork(folder, make)
    if code:
        raise SystemExit(err)


# -- faults -----------------------------------------------------------------------------------------------------------


def arm(kind: str, at: int, report: Callable[[int], None]) -> None:
    """Let the operations of this process that write fail from the `at`-th on (0: none), and report the number of each.

    Those on the null device and the like do not count.
    """
    count, inside = 0, False

    def meet(path: Any) -> None:
        nonlocal count, inside
        if inside or isinstance(path, int) or str(path).startswith(("/dev/", "/proc/")):
            return
        count += 1
        inside = True
        report(count)
        if at and count >= at:
            if kind != "short":
                inside = False
                raise OSError(KINDS[kind], os.strerror(KINDS[kind]), str(path))
            resource.setrlimit(resource.RLIMIT_FSIZE, (SHORT, resource.RLIM_INFINITY))
        inside = False

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            meet(arguments[0])
        elif event in EVENTS:
            meet(arguments[EVENTS[event]])

    fsync = os.fsync

    def flush(file: Any) -> None:
        meet("flush")
        fsync(file)

    os.fsync = flush
    sys.addaudithook(watch)


def fork(folder: Path, work: Callable[[], None], kind: str = "", at: int = 0) -> tuple[int, int, str]:
    """Run `work` in a child, in the folder; return its exit code, how often it wrote, and its standard error."""
    reader, writer = os.pipe()
    counts, counted = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader), os.close(counts)
        code = 99
        try:
            enter(folder, writer)
            arm(kind, at, lambda count: os.write(counted, count.to_bytes(2, "little")) and None)
            code = run_to_exit(work)
        finally:
            os._exit(code)
    os.close(writer), os.close(counted)
    err = open(reader, "rb").read().decode(errors="replace")  # noqa: SIM115  to the end of the child
    numbers = open(counts, "rb").read()  # noqa: SIM115
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int.from_bytes(numbers[-2:], "little"), err


def enter(folder: Path, errors: int) -> None:
    """Make this child work in the folder, with its cache and its temporary files there, and end if it hangs."""
    import signal

    import datasets

    signal.alarm(TIMEOUT)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  to the end of the child
    sys.stderr = open(errors, "w", buffering=1, encoding="utf-8")  # noqa: SIM115
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "temporary")
    (folder / "temporary").mkdir(exist_ok=True)


def run_to_exit(work: Callable[[], None]) -> int:
    """Return the exit code that the work ends with; a traceback has code 1."""
    try:
        work()
        sys.stdout.flush()
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        sys.stderr.write(traceback.format_exc())
        return 1
    return 0


@contextmanager
def mount(pages: int | None, template: Path) -> Iterator[Path]:
    """Yield a copy of the template; on a tmpfs with so many free pages, if that is not None."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "here"
        if pages is None:
            yield Path(shutil.copytree(template, folder))
            return
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=True)
        try:
            shutil.copytree(template, folder, dirs_exist_ok=True)
            (folder / "temporary").mkdir(exist_ok=True)
            free = os.statvfs(folder).f_bavail - pages
            (folder / "ballast").write_bytes(b"\1" * (free * PAGE))
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


# -- what is checked --------------------------------------------------------------------------------------------------


def read_results(folder: Path, command: Command) -> dict[str, Any]:
    """Return all that a command has written, by path; times left out, pictures and pages by their length."""
    found: dict[str, Any] = {}
    for result in command.results:
        top = folder / result
        for path in [top, *top.rglob("*")]:
            if path.is_file():
                found[str(path.relative_to(folder))] = read_result(path)
    return found


def read_result(path: Path) -> Any:
    """Return what a file holds, so far as it is the same each time."""
    from safetensors.torch import load_file

    if path.name == "model.safetensors":
        return {name: tensor.numpy(force=True).tobytes() if tensor.dtype.itemsize > 2 else str(tensor.tolist())
                for name, tensor in load_file(path).items()}  # fmt: skip
    if path.name == "metrics.jsonl":
        try:
            lines = [json.loads(line) for line in path.read_text().splitlines()]
        except ValueError:  # a full disk may cut its last line, which the next `train --resume` takes away
            return "torn"
        return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]
    if path.suffix in (".npy", ".csv", ".parquet", ".npz", ".tsv", ".pbtxt", ".svg", ".onnx"):
        return path.read_bytes()
    return path.name  # a page, a card, scores: with times in them


def find_strays(folder: Path, before: set[str], command: Command) -> list[str]:
    """Return the files that a fault has left half-written or has left behind."""
    strays = []
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        ours = any(name == result or name.startswith(f"{result}/") for result in command.results)
        if path.is_dir() or name in before or name in command.kept or (name.startswith("cache/") and is_whole(path)):
            continue
        if not ours or ".part" in name:
            strays.append(name)
    return strays


def is_whole(path: Path) -> bool:
    """Tell whether a file of the cache has its final name (locks stay, and hold nothing)."""
    return ".part" not in path.name and not path.name.startswith(("stream.", "texts.", "tmp"))


def check(
    tally: Tally, where: str, place: tuple[Path, Path], command: Command, ended: tuple[int, str], whole: Any
) -> None:
    """Check what a command that met a fault has left, and that it comes to its end once the fault is gone."""
    folder, template = place
    code, err = ended
    tally.cases += 1
    lines = [line for line in err.splitlines() if line.startswith("seqvae: ")]
    if code == 0:
        tally.went_on += 1
    elif code != 2 or len(lines) != 1 or not err.rstrip().endswith(lines[0]) or "Traceback" in err:
        last = (err.strip().splitlines() or ["nothing was printed"])[-1]
        tally.lines.append(f"{where}: exit code {code}, {last[:200]}")
    before = {str(path.relative_to(template)) for path in template.rglob("*")} | {"ballast"}
    tally.halves += [f"{where}: {name} is left" for name in find_strays(folder, before, command)]
    found, old = read_results(folder, command), read_results(template, command)
    for name, value in found.items():
        training = name.startswith(("new/", "model/"))  # whose weights change with each validation
        if not training and value not in (old.get(name), whole.get(name)):
            tally.halves.append(f"{where}: {name} is neither the old one nor the new one")
    (folder / "ballast").unlink(missing_ok=True)
    again, _, err = fork(folder, command.again or command.run)
    found = read_results(folder, command)
    wrong = [name for name in whole if found.get(name) != whole[name]]
    if again or wrong:
        last = (err.strip().splitlines() or [""])[-1]
        tally.lost.append(f"{where}: then exit code {again} {last[:160]}, other {', '.join(wrong[:3]) or 'nothing'}")


def run_kind(name: str, command: Command, kind: str, template: Path, tally: Tally, step: int) -> None:
    """Run all cases of a command and a kind of fault."""
    with mount(None, template) as folder:
        code, count, err = fork(folder, command.run)
        if code:
            raise SystemExit(f"{name} fails without a fault: {err}")
        whole = read_results(folder, command)
    for at in range(1, MOST, step):
        pages = at - 1 if kind == "tmpfs" else None
        with mount(pages, template) as folder:
            code, _, err = fork(folder, command.run, "" if pages is not None else kind, 0 if pages is not None else at)
            if (pages is None and at > count) or (pages is not None and "space" not in err and code == 0 and at > 1):
                return
            check(tally, f"{name}, {kind} at {at}", (folder, template), command, (code, err), whole)


def import_everything() -> None:
    """Import the package and what it imports only when it works, so that a child begins at once."""
    import seqvae

    for module in pkgutil.walk_packages(seqvae.__path__, "seqvae."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in (
        "accelerate.utils",
        "jinja2",
        "matplotlib.pyplot",
        "onnx",
        "pyarrow.parquet",
        "scipy.stats",
        "sklearn",
    ):
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", action="append", help="may be repeated; by default all")
    parser.add_argument("--kind", action="append", choices=[*KINDS], help="may be repeated; by default all")
    parser.add_argument("--step", type=int, default=1, help="take each so-manieth place alone")
    given = parser.parse_args()
    kinds = given.kind or [kind for kind in KINDS if kind != "tmpfs" or (os.geteuid() == 0 and sys.platform == "linux")]
    import_everything()
    tallies = {kind: Tally() for kind in kinds}
    commands = list_commands()
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place))
        for name in given.command or commands:
            for kind in kinds:
                before = tallies[kind].cases
                run_kind(name, commands[name], kind, Path(place), tallies[kind], given.step)
                print(f"{name}, {kind}: {tallies[kind].cases - before} cases", file=sys.stderr, flush=True)
    print("| fault | cases | went on | not one line | lost | half-written |\n|---|---|---|---|---|---|")
    wrong = []
    for kind, tally in tallies.items():
        counts = [tally.cases, tally.went_on, *map(len, (tally.lines, tally.lost, tally.halves))]
        print(f"| {kind} | {' | '.join(map(str, counts))} |")
        wrong += [*tally.lines, *tally.lost, *tally.halves]
    print(*wrong, sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
