"""Thousands of bad inputs, each given to a command in a process of its own: none may do worse than be refused.

    python -m tests.campaigns.bad_inputs --count 10000 --seed 0 [--kind folders] [--replay 17]

A server imports everything once and forks a child for each case. The child may take 10 s of processor time and 2 GB of
memory more than the server; what is scored at the end of a training is left out, for its time. Outcomes: `refused`
(exit code 2 and a line that begins with `seqvae: `), `accepted` (exit code 0), and four that are faults: `traceback`
(any other exit, a crash too), `hang`, `memory`, and `code` (a payload in a file was run). Where the numbers of a
configuration or an option ask for more memory than there is, the line that says so counts as refused; elsewhere as
`memory`.
"""

import argparse
import gc
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns.bad_input_cases import CANARY, KINDS, build_originals

SECONDS, WALL = 10, 60  # of the processor, and by the clock, which other processes slow down
MEMORY = 2 << 30
OUTCOMES = ("refused", "accepted", "traceback", "hang", "memory", "code")
FAULTS = OUTCOMES[2:]
FULL = ("MemoryError", "not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


@dataclass(frozen=True)
class Result:
    """What became of a case: its number, kind and arguments, the outcome, and what was written to standard error."""

    number: int
    kind: str
    arguments: list[str]
    outcome: str
    error: str


class Server:
    """A process that has imported everything, with sound files to damage."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.seed, self.originals = place, seed, place / "originals"
        os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", ARROW_DEFAULT_MEMORY_POOL="system")
        modules = place / "modules"
        self._wait(self._fork(lambda: self._prepare(modules), place))
        for name in modules.read_text().split():
            with suppress(Exception):
                __import__(name)
        import torch

        torch.set_num_threads(1)
        gc.collect()
        gc.freeze()  # the collector of a child then copies none of it

    def _prepare(self, modules: Path) -> None:
        """Build the sound files, and note which modules that took."""
        build_originals(self.originals, _run_briefly)
        for arguments in ("sample -n 2", "describe", "evaluate --samples 2 --refine 0"):
            command, *options = arguments.split()
            _run_briefly([command, str(self.originals / "model"), *options])
        modules.write_text("\n".join(name for name in sys.modules if not name.startswith(("__", "tests"))))

    def run(self, number: int, kinds: list[str]) -> Result:
        """Make a case and run it."""
        kind = kinds[number % len(kinds)]
        folder = self.place / f"case-{number}"
        folder.mkdir()
        arguments = KINDS[kind](random.Random(f"{self.seed}:{kind}:{number}"), folder, self.originals)
        begin = time.monotonic()
        status = self._wait(self._fork(lambda: _run_limited(arguments), folder))
        error = (folder / "stderr").read_text(errors="replace")
        outcome = judge(status, error, time.monotonic() - begin, kind, (folder / CANARY).exists())
        shutil.rmtree(folder, ignore_errors=True)
        return Result(number, kind, arguments, outcome, error)

    @staticmethod
    def _fork(work: object, folder: Path) -> int:
        if pid := os.fork():
            return pid
        code = 99
        try:
            os.chdir(folder)
            for name, stream in (("stdout", 1), ("stderr", 2)):
                os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            sys.stdout, sys.stderr = (open(f, "w", closefd=False, errors="replace") for f in (1, 2))  # noqa: SIM115
            work()  # type: ignore[operator]
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(BaseException):
                sys.stdout.flush()
            with suppress(BaseException):
                sys.stderr.flush()
            os._exit(code)

    @staticmethod
    def _wait(pid: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run_briefly(arguments: list[str]) -> None:
    """Run a command, without the scores and the page at the end of a training."""
    from seqvae.cli import main
    from seqvae.cli import train as _  # noqa: F401  its module is replaced below by its name

    train = sys.modules["seqvae.cli.train"]
    train.report = lambda run, folder: None  # type: ignore[attr-defined]
    main(arguments)


def _run_limited(arguments: list[str]) -> None:
    import datasets

    datasets.config.HF_DATASETS_CACHE = Path("cache").resolve()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WALL)
    _run_briefly(arguments)


def judge(status: int, error: str, seconds: float, kind: str, code_run: bool) -> str:
    if code_run:
        return "code"
    if status in (-signal.SIGXCPU, -signal.SIGALRM) or (status == -signal.SIGKILL and seconds >= SECONDS):
        return "hang"
    last = (error.strip().splitlines() or [""])[-1]
    one_line = status == 2 and last.startswith("seqvae: ") and "Traceback" not in error and len(last) < 2_000
    asked = kind in ("configs", "options") and one_line
    if status and any(word in error for word in FULL) and not asked:
        return "memory"
    if one_line:
        return "refused"
    return "accepted" if status == 0 and "Traceback" not in error else "traceback"


def run_cases(numbers: range, seed: int, kinds: list[str]) -> Iterator[Result]:
    """Run cases, each in a child of a server of their own."""
    place = Path(tempfile.mkdtemp(prefix="bad-inputs-"))
    try:
        server = Server(place, seed)
        for number in numbers:
            yield server.run(number, kinds)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def format_table(results: Counter[tuple[str, str]]) -> str:
    """Return the table of how many cases of each kind had each outcome."""
    lines = ["| kind | cases | " + " | ".join(OUTCOMES) + " |", "|---|" + "---:|" * (1 + len(OUTCOMES))]
    for kind in [*KINDS, "all"]:
        counts = [
            sum(n for (k, o), n in results.items() if o == outcome and kind in (k, "all")) for outcome in OUTCOMES
        ]
        if sum(counts):
            lines.append("| " + " | ".join([kind, f"{sum(counts):,}", *(f"{count:,}" for count in counts)]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the campaign, print each fault as it is found and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no case after these")
    parser.add_argument("--kind", choices=KINDS, help="only this kind")
    parser.add_argument("--replay", type=int, help="run this case alone and print all of its error")
    given = parser.parse_args()
    kinds, begin = [given.kind] if given.kind else list(KINDS), time.monotonic()
    alone = given.replay is not None
    first = given.replay if alone else given.first
    counts: Counter[tuple[str, str]] = Counter()
    for result in run_cases(range(first, first + (1 if alone else given.count)), given.seed, kinds):
        counts[result.kind, result.outcome] += 1
        if result.outcome in FAULTS or alone:
            lines = result.error.strip().splitlines()
            shown = "\n".join(lines if alone else lines[-6:])
            print(f"{result.number} {result.kind} {result.outcome}: {result.arguments}\n{shown[-9000:]}\n", flush=True)
        if time.monotonic() - begin > 60 * given.minutes:
            break
    print(format_table(counts))
    print(f"{time.monotonic() - begin:.0f} seconds")
    sys.exit(any(outcome in FAULTS for _, outcome in counts))


if __name__ == "__main__":
    main()
