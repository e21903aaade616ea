"""How training scales: targets a second with one thread, with two, and with two processes of one thread.

    python -m benchmarks.scaling [CORPUS] [--rounds 3] [--steps 60] [--hidden 256] [--batch-size 64]
        [--precision auto]

The defaults at the sizes of the other measurements, or LSTMs and batches of other sizes. Two processes share each
batch, so that all three make the same steps; rounds are interleaved and medians shown. `auto` may choose another
precision for one thread than for two.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.workloads import HIDDEN, config, load_corpus
from seqvae.training.loop import Run
from seqvae.training.machine import keep_freed_memory
from seqvae.training.runtime import make_accelerator

SETUPS = {"one thread": (1, 1), "two threads": (1, 2), "two processes of one thread": (2, 1)}


def train(corpus: str, steps: int, hidden: int, **options: object) -> None:
    """Train for some steps in this process, one of one or several; the main one prints the rate."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    keep_freed_memory()
    chosen = config(HIDDEN, hidden, **options)
    run = Run(chosen, load_corpus(corpus), accelerator=make_accelerator(chosen, None))
    trained = run.trainer.steps()
    for _ in itertools.islice(trained, 5):
        pass
    begin = time.perf_counter()
    tokens = sum(step.report.tokens for step in itertools.islice(trained, steps))
    if run.accelerator.is_main_process:
        print(tokens / (time.perf_counter() - begin))
    run.accelerator.end_training()


def measure_rate(arguments: list[str], processes: int, threads: int) -> float:
    """Measure the targets a second of a training in new processes."""
    module = ["-m", "benchmarks.scaling", *arguments, "--once"]
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, *several, *module]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return float(out.split()[-1])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="?", default="sotu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="that are timed")
    parser.add_argument("--hidden", type=int, default=HIDDEN, help="units of the LSTM layers")
    parser.add_argument("--batch-size", type=int, default=64, help="sentences of a step, of all processes together")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        options = {"batch_size": given.batch_size, "precision": given.precision}
        train(given.corpus, given.steps, given.hidden, **options)
        return
    setups = SETUPS.values()
    rounds = [[measure_rate(sys.argv[1:], *setup) for setup in setups] for _ in range(given.rounds)]
    print("| training with | targets/s | beside one thread |\n| --- | ---: | ---: |")
    for name, rates in zip(SETUPS, zip(*rounds, strict=True), strict=True):
        ratios = [rate / first for rate, (first, *_) in zip(rates, rounds, strict=True)]
        print(f"| {name} | {statistics.median(rates):,.0f} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
