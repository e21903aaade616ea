"""What a user waits for before anything is learnt: help, imports, tokenizing, the first batch of a large corpus.

    python -m benchmarks.start [--lines 1000000]

Times are medians of five fresh processes. The large corpus is made up (Zipf's law, 10 words a line), written to a
folder that is removed, and read twice: first with nothing in the cache, then as on every later day.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TIMES = 5
FIRST = """
import sys, time
begin = time.perf_counter()
from seqvae.text.batching import Batches
from seqvae.text.corpus import load
corpus = load(sys.argv[1])
read = time.perf_counter()
next(Batches(corpus.train, batch_size=64).epoch(0))
print(time.perf_counter() - begin, time.perf_counter() - read)
"""
TOKENIZE = """
import sys, time
from seqvae.text.tokenizer import Tokenizer
lines = open(sys.argv[1], encoding="utf-8").read().splitlines()[:200_000]
tokenizer = Tokenizer.train(lines[:20_000], "word")
begin = time.perf_counter()
tokenizer.encode_batch(lines)
print(len(lines) / (time.perf_counter() - begin))
"""


def seconds(*command: str) -> float:
    """Of a process, the median of some."""
    found = []
    for _ in range(TIMES):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def printed(program: str, *arguments: str, **environment: str) -> list[float]:
    """The numbers that a program prints."""
    command = [sys.executable, "-c", program, *arguments]
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment).stdout
    return [float(number) for number in out.split()]


def write(path: Path, lines: int) -> None:
    """A made-up corpus."""
    random = np.random.default_rng(0)
    chances = 1 / (np.arange(50_000) + 2.7)
    with path.open("w", encoding="utf-8") as file:
        for begin in range(0, lines, 100_000):
            size = min(100_000, lines - begin)
            rows = random.choice(len(chances), size=(size, 10), p=chances / chances.sum()).tolist()
            file.writelines(" ".join(f"w{i}" for i in row) + "\n" for row in rows)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1_000_000, help="of the large corpus")
    lines = parser.parse_args().lines
    print("| what | figure |\n| --- | ---: |")
    print(f"| `python -m seqvae --help` | {seconds(sys.executable, '-m', 'seqvae', '--help'):.2f} s |", flush=True)
    torch, ours = (
        seconds(sys.executable, "-c", f"import torch{more}") for more in ("", "; from seqvae import TextVAE")
    )
    print(f"| `import torch` | {torch:.2f} s |")
    print(f"| the same, and `from seqvae import TextVAE` | {ours:.2f} s |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.txt"
        write(path, lines)
        print(f"| sentences tokenized by words | {printed(TOKENIZE, str(path))[0]:,.0f} a second |", flush=True)
        for day in ("first day", "later day"):
            whole, after = printed(FIRST, str(path), HF_DATASETS_CACHE=f"{folder}/cache")
            print(f"| first batch of {lines:,} lines, {day} | {whole:.1f} s |", flush=True)
            print(f"| of these after the corpus was read | {after:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
