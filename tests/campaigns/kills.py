"""Kill small trainings by SIGKILL at random moments, resume each to its end, and compare it with the undisturbed one.

    python -m tests.campaigns.kills --count 1000 --seed 0 --workers 2

One process imports everything and forks each training, so that one takes about a second. Kill number N of a seed is the
same each time: `--only N` makes it again and keeps its folder. The exit code is 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from tests.campaigns import places
from tests.campaigns.places import Watch

ANY, AGAIN, TWO = "any time", "any time, and the resumed run too", "any of these, two processes"
PATIENCE = 120.0  # seconds after which a training counts as hung
WORDS = [["a cat", "the dog", "one bird", "my friend", "the old man"], ["sat", "ran", "ate"], ["", "here", "at home"]]
SIZES = ["--precision", "fp32", "--model.latent", "3", "--batch-size", "8", "--warmup", "2"]
PARTS = ["--model.encoder", "recurrent", "--model.encoder.hidden", "6", "--model.decoder.hidden", "6"]
TEXT = ["corpus.txt", *SIZES, *PARTS, "--model.embedding", "6", "--max-length", "8", "--validate-every", "5"]
MIXTURE = ["--model.prior", "mixture", "--model.prior.components", "3", "--model.prior.refit", "2"]
STOPPED = ["--max-epochs", "40", "--patience", "2", "--learning-rate", "0.5"]
RECIPES = {
    "text": [*TEXT, *MIXTURE, "--max-epochs", "3"],
    "patience": [*TEXT, *STOPPED],
    "target": [*TEXT, "--max-epochs", "3", "--target-kl", "1"],
    "series": ["series.npz", *SIZES, *PARTS, "--validate-every", "4", "--max-epochs", "3"],
}
# Of 25 kills, the moment of each.
SCHEDULE = [ANY, *places.LABELS, ANY, AGAIN, TWO, *(places.READING, places.VALIDATING, places.MODEL, places.STATE)]
SCHEDULE += [ANY, places.MODEL, places.STATE, places.END, places.VALIDATING, TWO, ANY]
TIMES = ("seconds", "tokens_per_second")
COMPARED = ("config.json", "tokenizer.json", "recipe.toml", "resume/config.json")


@dataclass(frozen=True)
class Kill:
    """A kill of the campaign.

    Attributes:
        moment: its row of the table.
        label: of the place, and which of them as a fraction; none at a random time.
        fraction: of the places or of the time.
        written: the fraction of a file that is written when the training dies in the midst of it.
        victim: of two processes, the one that dies first; the other follows `delay` seconds later, as torchrun does.
    """

    recipe: str
    moment: str
    label: str | None
    fraction: float
    written: float
    processes: int = 1
    victim: int = 0
    delay: float = 0.0


def draw(seed: int, number: int) -> Kill:
    """Draw kill number `number` of a seed."""
    rng, moment = random.Random(f"{seed}/{number}"), SCHEDULE[number % len(SCHEDULE)]
    recipe, label = rng.choice(list(RECIPES)), None if moment in (ANY, AGAIN) else moment
    if moment == TWO:
        recipe, label = "text", rng.choice([*places.LABELS, None])
    written = rng.choice([1.0, rng.random()])
    return Kill(recipe, moment, label, rng.random(), written, 1 + (moment == TWO), rng.randrange(2), 0.2 * rng.random())


@dataclass
class Whole:
    """An undisturbed training: its folder, its seconds and the places that each process passed."""

    folder: Path
    seconds: float
    passed: list[dict[str, int]]
    steps: int


def write_corpora(folder: Path) -> None:
    """Write the corpora of the recipes."""
    import numpy as np

    texts = [" ".join(f"{a} {b} {c} .".split()) for a in WORDS[0] for b in WORDS[1] for c in WORDS[2]]
    (folder / "corpus.txt").write_text("\n".join(texts) + "\n")
    x = np.random.default_rng(0).normal(size=(60, 6, 2)).cumsum(1).astype(np.float32)
    np.savez(folder / "series.npz", x=x, lengths=np.full(60, 6))


# -- one training ------------------------------------------------------------------------------------------------------


def fork(folder: Path, arguments: list[str], watch: Watch, environment: dict[str, str], rank: int = 0) -> int:
    """Start `seqvae train` in a fork of this process; return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(folder)
        out = os.open(f"output-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ.update(environment)
        code = run_command(arguments, watch)
        (folder / f"passed-{rank}.json").write_text(json.dumps([watch.passed, watch.step, list(sys.modules)]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def run_command(arguments: list[str], watch: Watch) -> int:
    """Run a command in this process, with random numbers that are its own; return its exit code."""
    import datasets
    import torch

    from seqvae.cli import main

    torch.manual_seed(os.getpid())
    random.seed()
    datasets.config.HF_DATASETS_CACHE = watch.cache
    watch.begin()
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def start(folder: Path, recipe: str, watches: list[Watch], *, resume: bool = False) -> list[int]:
    """Start the processes of a training in `folder`; return their ids."""
    corpus, *options = RECIPES[recipe]
    arguments = ["train", str(folder.parent / corpus), *options, "--output", "run", *(["--resume"] if resume else [])]
    if len(watches) == 1:
        return [fork(folder, arguments, watches[0], {})]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    return [fork(folder, arguments, watches[rank], world | ranks[rank], rank) for rank in (0, 1)]


def wait(pids: list[int], *, kill_at: float = PATIENCE, delay: float = 0.0) -> list[int]:
    """Wait for the processes and return how each ended, negative by a signal; kill them all after some seconds.

    When one has failed, the others are killed too, `delay` seconds later.
    """
    codes: dict[int, int] = {}
    end = time.monotonic() + kill_at
    while len(codes) < len(pids):
        for pid in set(pids) - codes.keys():
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if any(codes.values()):
            end = min(end, time.monotonic() + delay)
            delay = PATIENCE
        if time.monotonic() > end:
            for pid in set(pids) - codes.keys():
                os.kill(pid, signal.SIGKILL)
            end += PATIENCE
        time.sleep(0.003)
    return [codes[pid] for pid in pids]


def make_folder(within: Path, name: str) -> Path:
    """Make the folder of a training."""
    folder = within / name
    folder.mkdir()
    return folder


def watch_of(folder: Path, **options) -> Watch:
    """Return the watch of a training in `folder`."""
    return Watch(folder / "run", folder / "cache", **options)


def train_whole(within: Path, recipe: str, processes: int, steps: int = 0) -> Whole:
    """Train without a kill."""
    folder = make_folder(within, f"whole-{recipe}-{processes}-{steps}")
    begin = time.monotonic()
    codes = wait(start(folder, recipe, [watch_of(folder, steps=steps) for _ in range(processes)]))
    seconds = time.monotonic() - begin
    if any(codes):
        raise SystemExit(f"{recipe} fails without a kill:\n" + (folder / "output-0.txt").read_text()[-3000:])
    found = [json.loads((folder / f"passed-{rank}.json").read_text()) for rank in range(processes)]
    for module in found[0][2]:  # what is imported here need not be in each training
        try:
            importlib.import_module(module)
        except Exception:
            continue
    return Whole(folder, seconds, [passed for passed, *_ in found], found[0][1])


def prepare(within: Path) -> dict[tuple[str, int], Whole]:
    """Make the undisturbed trainings, twice each: the second has all imports and knows which step is the last."""
    found = {}
    for key in [*((recipe, 1) for recipe in RECIPES), ("text", 2)]:
        first = train_whole(within, *key)
        found[key] = train_whole(within, *key, first.steps)
        if wrong := compare(first.folder / "run", found[key].folder / "run"):
            raise SystemExit(f"two undisturbed trainings differ: {key} {wrong}")
    return found


# -- a kill and what comes of it ---------------------------------------------------------------------------------------


def try_kill(within: Path, name: str, kill: Kill, whole: Whole) -> dict:
    """Kill a training, resume it to its end, and return what was found."""
    folder = make_folder(within, name)
    watches = [watch_of(folder, steps=whole.steps, written=kill.written) for _ in range(kill.processes)]
    kill_at = PATIENCE
    victim = kill.victim % kill.processes
    places_of = whole.passed[victim].get(kill.label or "", 0)
    if places_of:
        watches[victim].label, watches[victim].number = kill.label, 1 + int(kill.fraction * places_of)
    else:
        kill_at = kill.fraction * whole.seconds
    codes = wait(start(folder, kill.recipe, watches), kill_at=kill_at, delay=kill.delay)
    found = Counter(kills=int(-signal.SIGKILL in codes))
    if kill.moment == AGAIN:
        again = random.Random(kill.fraction).random() * whole.seconds
        codes = wait(start(folder, kill.recipe, [watch_of(folder)], resume=True), kill_at=again)
        found["kills"] += -signal.SIGKILL in codes
    if not found["kills"]:
        shutil.rmtree(folder)
        return {"moment": kill.moment, "kills": 0}
    codes = wait(start(folder, kill.recipe, [watch_of(folder) for _ in range(kill.processes)], resume=True))
    wrong = ["lost"] if any(codes) else compare(folder / "run", whole.folder / "run")
    if not wrong:
        shutil.rmtree(folder)
    return {"moment": kill.moment, "kills": found["kills"], "wrong": wrong, "name": name, "kill": asdict(kill)}


def compare(run: Path, whole: Path) -> list[str]:
    """Return what differs between two trainings: "weights", "lines" of metrics.jsonl, "files"."""
    from safetensors.torch import load_file

    wrong = []
    mine, other = (load_file(place / "model.safetensors") for place in (run, whole))
    same = mine.keys() == other.keys() and all(mine[k].numpy().tobytes() == other[k].numpy().tobytes() for k in mine)
    wrong += [] if same else ["weights"]
    wrong += [] if read_lines(run) == read_lines(whole) else ["lines"]
    texts = [[(place / name).read_bytes() for name in COMPARED if (place / name).exists()] for place in (run, whole)]
    names = [sorted(str(path.relative_to(place)) for path in place.rglob("*")) for place in (run, whole)]
    return wrong + ([] if texts[0] == texts[1] and names[0] == names[1] else ["files"])


def read_lines(run: Path) -> list:
    """Read metrics.jsonl without its times; a torn line is returned as it is."""
    lines = []
    for line in (run / "metrics.jsonl").read_text().split("\n"):
        try:
            lines.append({name: value for name, value in json.loads(line).items() if name not in TIMES})
        except ValueError:
            lines.append(line)
    return lines


# -- the campaign ------------------------------------------------------------------------------------------------------


def run_lane(within: Path, lane: int, lanes: int, arguments: argparse.Namespace, wholes: dict) -> None:
    """Make every `lanes`-th kill, and write what is found, a line a kill."""
    end = time.monotonic() + 60 * arguments.minutes
    numbers = range(lane, arguments.count, lanes) if arguments.only is None else [arguments.only]
    with open(within / f"lane-{lane}.jsonl", "w") as file:
        for number in numbers:
            if time.monotonic() > end:
                break
            kill = draw(arguments.seed, number)
            found = try_kill(within, f"kill-{number}", kill, wholes[kill.recipe, kill.processes])
            file.write(json.dumps(found) + "\n")
            file.flush()
            if found.get("wrong"):
                print(f"kill {number}: {', '.join(found['wrong'])}: {kill}", file=sys.stderr, flush=True)


def format_table(found: list[dict]) -> Iterator[str]:
    """Yield the lines of a table in Markdown, a row a moment."""
    columns = {"lost": "lost", "weights": "weights differ", "lines": "torn, doubled or other lines"}
    columns["files"] = "other files differ"
    yield "| moment | kills | resumed | " + " | ".join(columns.values()) + " |"
    yield "| --- |" + " ---: |" * (2 + len(columns))
    moments = list(dict.fromkeys([*SCHEDULE]))
    for moment in [*moments, "all"]:
        rows = [row for row in found if row["kills"] and moment in (row["moment"], "all")]
        wrong = [sum(name in row["wrong"] for row in rows) for name in columns]
        resumed = len(rows) - wrong[0]
        yield "| " + " | ".join(map(str, [moment, sum(row["kills"] for row in rows), resumed, *wrong])) + " |"


def main() -> int:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time")
    parser.add_argument("--minutes", type=float, default=1e6, help="no kill is begun after these")
    parser.add_argument("--only", type=int, help="the number of the only kill to make; its folder is kept")
    arguments = parser.parse_args()
    import accelerate  # noqa: F401  before the forks
    import datasets  # noqa: F401
    import torch

    import seqvae.cli  # noqa: F401

    torch.set_num_threads(1)
    within, begin = Path(tempfile.mkdtemp(prefix="kills-")), time.monotonic()
    write_corpora(within)
    wholes = prepare(within)
    lanes = 1 if arguments.only is not None else arguments.workers
    pids = []
    for lane in range(lanes):
        pids.append(os.fork())
        if not pids[-1]:
            code = 1
            try:
                run_lane(within, lane, lanes, arguments, wholes)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
    failed = any(status for _, status in [os.waitpid(pid, 0) for pid in pids])
    texts = [(within / f"lane-{lane}.jsonl").read_text() for lane in range(lanes)]
    found = [json.loads(line) for text in texts for line in text.splitlines()]
    print(*format_table(found), sep="\n")
    print(f"\n{len(found)} drawn, seed {arguments.seed}, {(time.monotonic() - begin) / 60:.1f} minutes")
    wrong = any(row.get("wrong") for row in found)
    if wrong or arguments.only is not None:
        print(f"kept: {within}")
    else:
        shutil.rmtree(within)
    return int(failed or wrong)


if __name__ == "__main__":
    sys.exit(main())
