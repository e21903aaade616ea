"""Use one model from four threads for long: does memory stay flat, and does every answer stay the same?

    python -m tests.campaigns.long_life --minutes 60

Each thread samples, scores, encodes and interpolates with the built-in model `chitchat`, in an order and of sizes that
its seed decides. Every answer of a seed is compared with the one of the start. The memory that the process holds (RSS)
is recorded each 10 seconds, and a line is fitted to it after the first 2 minutes. Exit code 1 for a wrong answer, or
for memory that grows by more than 20 MB an hour.
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqvae import TextVAE

THREADS, SEEDS = 4, 24
INTERVAL, WARMUP = 10.0, 120.0  # seconds between two records of memory, and before those that the line is fitted to
GROWTH = 20.0  # MB an hour, at most
CLOSE = 1e-4  # nats, of scores of equal sentences: threads divide the cores differently


@dataclass
class Life:
    """What was seen of a process: its calls, its wrong answers, its memory.

    Attributes:
        calls: by verb.
        wrong: a line for each wrong answer or error.
        memory: pairs of seconds since the start and MB.
    """

    calls: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)

    def fit_growth(self, warmup: float = WARMUP) -> tuple[float, float]:
        """Fit a line to the memory after the warmup; return its slope and standard error in MB an hour."""
        seconds, held = np.array([pair for pair in self.memory if pair[0] >= warmup]).T
        hours = (seconds - seconds.mean()) / 3600
        slope = float(hours @ held / (hours @ hours))
        rest = held - held.mean() - slope * hours
        return slope, float(np.sqrt(rest @ rest / max(len(held) - 2, 1) / (hours @ hours)))


def read_memory() -> float:
    """Return the memory that this process holds (RSS), in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def make_calls(model: TextVAE) -> dict[tuple[str, int], Callable[[], Any]]:
    """Return a call for each verb and seed, which decides its sizes and sentences; it returns sentences or a tensor."""
    texts = [text for text in model.sample(200, seed=0, candidates=1) if text.strip()]
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    for seed in range(SEEDS):
        chance = random.Random(seed)
        some, size = chance.sample(texts, chance.randint(2, 40)), chance.randint(1, 8)
        calls["sample", seed] = partial(model.sample, size, seed=seed, candidates=1 + seed % 3)
        calls["score", seed] = partial(model.score, some, samples=size, seed=seed)
        calls["encode", seed] = partial(lambda some: model.encode(some).mode, some)
        calls["interpolate", seed] = partial(model.interpolate, some[0], some[1], steps=2 + size)
    return calls


def is_same(one: Any, other: Any) -> bool:
    """Compare two answers: sentences word for word, numbers within `CLOSE`."""
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and bool(torch.allclose(one, other, rtol=0, atol=CLOSE))
    return bool(one == other)


def live(model: TextVAE, minutes: float, *, interval: float = INTERVAL, report: Callable[[str], None] = print) -> Life:
    """Call the model from four threads for so many minutes, and return what was seen."""
    calls = make_calls(model)
    expected = {key: call() for key, call in calls.items()}
    life, lock, begin = Life(), threading.Lock(), time.monotonic()
    end = begin + 60 * minutes

    def work(number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            verb, seed = key = chance.choice([*calls])
            try:
                wrong = "" if is_same(calls[key](), expected[key]) else "another answer"
            except Exception as error:  # whatever it is, it is counted
                wrong = repr(error)
            with lock:
                life.calls[verb] += 1
                if wrong:
                    life.wrong.append(f"{verb} of seed {seed}: {wrong}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(min(interval, max(end - time.monotonic(), 0)))
        life.memory.append((time.monotonic() - begin, read_memory()))
        if len(life.memory) % 6 == 0:
            report(f"{life.memory[-1][0]:6.0f} s  {life.memory[-1][1]:7.1f} MB  {life.calls.total():,} calls")
    for thread in threads:
        thread.join()
    return life


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes = parser.parse_args().minutes
    torch.set_num_threads(1)
    life = live(TextVAE.from_pretrained("chitchat"), minutes, report=lambda line: print(line, flush=True))
    slope, error = life.fit_growth(min(WARMUP, 30 * minutes))
    after = [held for seconds, held in life.memory if seconds >= min(WARMUP, 30 * minutes)]
    print("\n| minutes | calls | wrong | RSS after 2 minutes | at the end | growth |\n|---|---|---|---|---|---|")
    print(
        f"| {minutes:g} | {life.calls.total():,} | {len(life.wrong)} | {after[0]:.0f} MB | {after[-1]:.0f} MB | "
        f"{slope:+.1f} ± {error:.1f} MB an hour |"
    )
    print(", ".join(f"{verb} {count:,}" for verb, count in sorted(life.calls.items())))
    print(*dict.fromkeys(life.wrong), sep="\n")
    sys.exit(1 if life.wrong or slope - 2 * error > GROWTH else 0)


if __name__ == "__main__":
    main()
