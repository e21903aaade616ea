"""How the cost of training grows: targets a second against one size at a time, all else at the defaults.

    python -m benchmarks.growth [--seconds 4] [--output FOLDER]

Each size is measured in a process of its own, with its peak memory, reading the text included. The text is
synthetic: words sampled independently with frequencies of Zipf's law, so that length, vocabulary and number of
sentences can be chosen. The cost does not depend on what the model learns.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from seqvae.training.machine import keep_freed_memory, share_cores

share_cores()  # before torch is imported

from benchmarks.speed import rate, read_peak_memory  # noqa: E402
from benchmarks.workloads import make_corpus  # noqa: E402
from seqvae.config import Config  # noqa: E402
from seqvae.reports.figure_style import COLOURS, make_figure, save_figure, use_style  # noqa: E402
from seqvae.training.loop import Run  # noqa: E402
from seqvae.training.runtime import make_accelerator  # noqa: E402

USUAL = {"batch size": 64, "words a sentence": 10, "hidden units": 256, "vocabulary": 10_000, "sentences": 20_000}
SIZES = {
    "batch size": (8, 16, 32, 64, 128, 256),
    "words a sentence": (5, 10, 20, 40, 80),
    "hidden units": (64, 128, 256, 512, 1024),
    "vocabulary": (1_000, 5_000, 20_000, 100_000),
    "sentences": (2_000, 20_000, 200_000),
}


def measure(sizes: dict[str, int], seconds: float) -> tuple[float, float]:
    """Measure training with these sizes: targets a second, all of a step included; peak memory, MiB."""
    corpus = make_corpus(sizes["words a sentence"], sizes["vocabulary"], sizes["sentences"])
    part = {"name": "recurrent", "hidden": sizes["hidden units"]}
    model = {"embedding": sizes["hidden units"], "encoder": part, "decoder": part}
    config = Config.from_dict({"model": model, "training": {"batch_size": sizes["batch size"], "max_epochs": 1000}})
    steps = Run(config, corpus, accelerator=make_accelerator(config, None)).trainer.steps()

    def work() -> float:
        return next(steps).report.tokens

    for _ in range(3):
        work()
    return rate(work, seconds), read_peak_memory()


def measure_in_process(name: str, size: int, seconds: float) -> tuple[float, float]:
    """Measure the same in a process of its own, with all sizes but one the usual ones."""
    command = [sys.executable, "-m", "benchmarks.growth", "--seconds", str(seconds), "--only", name, str(size)]
    targets, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(targets), float(memory)


def plot(found: dict[str, dict[int, float]], folder: Path) -> None:
    """Plot a line for each size that was changed, against its multiple of the usual one."""
    with use_style():
        figure, axes = make_figure("size, as a multiple of the usual one", "targets a second")
        for colour, (name, rates) in zip(COLOURS, found.items(), strict=False):
            across = [size / USUAL[name] for size in rates]
            axes.loglog(across, list(rates.values()), marker="o", color=colour, label=f"{name} ({USUAL[name]:,})")
        axes.legend(fontsize=8, loc="lower left")
        save_figure(figure, folder, "growth")


def main() -> None:
    """Measure, print the table, and plot it if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement, at least")
    parser.add_argument("--output", type=Path, help="folder for the figure")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    keep_freed_memory()
    if given.only:
        name, size = given.only
        print(*measure(USUAL | {name: int(size)}, given.seconds))
        return
    print("| what is changed | size | targets a second | MiB |\n| --- | ---: | ---: | ---: |")
    found: dict[str, dict[int, float]] = {}
    for name, sizes in SIZES.items():
        for size in sizes:
            found.setdefault(name, {})[size], memory = measure_in_process(name, size, given.seconds)
            print(f"| {name} | {size:,} | {found[name][size]:,.0f} | {memory:,.0f} |", flush=True)
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        plot(found, given.output)


if __name__ == "__main__":
    main()
