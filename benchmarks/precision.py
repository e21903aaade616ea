"""bf16 against fp32 on this machine: the time of a step, and the memory of a training over its steps.

    python -m benchmarks.precision [--words 2 80] [--steps 600] [--rounds 10] [--memory]

The text is synthetic, with sentences of all lengths given by `--words`, equally frequent; sizes are the defaults.
Time is that of 5 steps of each precision in turn in one process; memory is that of a process of its own for each.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from seqvae.training.machine import keep_freed_memory, limit_primitives, share_cores

share_cores()  # before torch is imported
ASIS = dict(os.environ)  # for processes that train in one precision alone
if "--only" not in sys.argv:  # both train in one process, with the limit of a training in bf16
    limit_primitives(128)

import numpy as np  # noqa: E402

from seqvae.config import Config  # noqa: E402
from seqvae.data.text.corpus import TextCorpus, load  # noqa: E402
from seqvae.training.loop import Run  # noqa: E402
from seqvae.training.precision import measure_bf16  # noqa: E402
from seqvae.training.runtime import make_accelerator  # noqa: E402
from seqvae.training.trainer import Step  # noqa: E402

PRECISIONS = ("fp32", "bf16")
MARKS = (10, 100, 300, 600)  # steps after which memory is read
VOCABULARY, SENTENCES = 10_000, 20_000


def make_corpus(least: int, most: int) -> TextCorpus:
    """Make sentences of `least` to `most` words, sampled by Zipf's law."""
    random = np.random.default_rng(0)
    ends = np.cumsum(random.integers(least, most + 1, SENTENCES))
    words = [f"w{i}" for i in (VOCABULARY ** random.random(ends[-1])).astype(int)]
    starts = [0, *ends[:-1].tolist()]
    lines = [" ".join(words[start:end]) for start, end in zip(starts, ends.tolist(), strict=True)]
    return load(lines, vocabulary_size=VOCABULARY)


def make_config(precision: str, batch_size: int) -> Config:
    """Return the defaults in this precision."""
    return Config.from_dict({"training": {"precision": precision, "max_epochs": 1000, "batch_size": batch_size}})


def iterate_steps(corpus: TextCorpus, config: Config) -> Iterator[Step]:
    """Yield the steps of a training."""
    return Run(config, corpus, accelerator=make_accelerator(config, None)).trainer.steps()


def time_steps(corpus: TextCorpus, rounds: int, batch_size: int) -> dict[str, list[tuple[float, float]]]:
    """Time steps: for each precision and round the seconds of a step, by the clock and of the processor."""
    sides = {name: iterate_steps(corpus, make_config(name, batch_size)) for name in PRECISIONS}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in PRECISIONS}
    for number in range(rounds + 2):
        for name, steps in sides.items():
            begin = time.perf_counter(), time.process_time()
            for _ in itertools.islice(steps, 5):
                pass
            spent = (time.perf_counter() - begin[0]) / 5, (time.process_time() - begin[1]) / 5
            if number >= 2:  # the first two are warmup
                found[name].append(spent)
    return found


def read_memory() -> float:
    """Return the memory of this process, MiB, on Linux."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def measure_memory(corpus: TextCorpus, precision: str, steps: int, batch_size: int) -> list[float]:
    """Measure the memory, MiB, after each of `MARKS` that is not beyond `steps`."""
    trained = iterate_steps(corpus, make_config(precision, batch_size))
    return [read_memory() for number in range(1, steps + 1) if next(trained) and number in MARKS]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, nargs=2, default=(2, 80), help="least and most of a sentence")
    parser.add_argument("--steps", type=int, default=600, help="of each training whose memory is read")
    parser.add_argument("--rounds", type=int, default=10, help="of 5 steps of each, for the time")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--memory", action="store_true", help="also the memory, which takes longer")
    parser.add_argument("--only", choices=PRECISIONS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    corpus = make_corpus(*given.words)
    keep_freed_memory()
    if given.only:
        print(*measure_memory(corpus, given.only, given.steps, given.batch_size))
        return
    found = time_steps(corpus, given.rounds, given.batch_size)
    print("| precision | ms a step, median | ms of the processor |\n| --- | ---: | ---: |")
    for name, pairs in found.items():
        print(
            f"| {name} | "
            + " | ".join(f"{1000 * statistics.median(part):.1f}" for part in zip(*pairs, strict=True))
            + " |"
        )
    ratios = [half[0] / single[0] for half, single in zip(found["bf16"], found["fp32"], strict=True)]
    print(f"\nbf16 / fp32: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"what --precision auto measures: {measure_bf16(make_config('auto', given.batch_size)):.2f}")
    if given.memory:
        marks = [mark for mark in MARKS if mark <= given.steps]
        print("\n| MiB after steps | " + " | ".join(map(str, marks)) + " |\n| --- |" + " ---: |" * len(marks))
        for name in PRECISIONS:
            command = [sys.executable, "-m", "benchmarks.precision", *sys.argv[1:], "--only", name]
            run = subprocess.run(command, check=True, capture_output=True, text=True, env=ASIS)
            printed = run.stdout.split()
            print(f"| {name} | " + " | ".join(f"{float(value):,.0f}" for value in printed) + " |", flush=True)


if __name__ == "__main__":
    main()
