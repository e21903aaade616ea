"""Waiting times beside training: help, imports, tokenizing, a large corpus, sentences to vectors and back.

    python -m benchmarks.start [--lines 5000000]

Times are medians of five fresh processes. The large corpus is synthetic (Zipf's law, 10 words a line), written to a
temporary folder, and read twice: first with an empty cache, then from it. The model is the
default one after some steps on `grammar`, so that its sentences end. Of `encode` and `decode` the whole command is
timed, and the work alone: the difference between 50,000 and 10,000 sentences.
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

from seqvae import TextVAE
from seqvae.data.text.corpus import load

TIMES = 5
FIRST = """
import sys, time
begin = time.perf_counter()
from seqvae.data.batching import Batches
from seqvae.data.text.corpus import load
corpus = load(sys.argv[1])
read = time.perf_counter()
next(Batches(corpus.train, batch_size=64).epoch(0))
print(time.perf_counter() - begin, time.perf_counter() - read)
"""
TOKENIZE = """
import sys, time
from seqvae.data.text.tokenizer import Tokenizer
lines = open(sys.argv[1], encoding="utf-8").read().splitlines()[:200_000]
tokenizer = Tokenizer.train(lines[:20_000], "word")
begin = time.perf_counter()
tokenizer.encode_batch(lines)
print(len(lines) / (time.perf_counter() - begin))
"""


def time_command(*command: str, times: int = TIMES) -> float:
    """Time a command: the median of some processes, in seconds."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def run_program(program: str, *arguments: str, **environment: str) -> list[float]:
    """Run a program and return the numbers that it prints."""
    command = [sys.executable, "-c", program, *arguments]
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment).stdout
    return [float(number) for number in out.split()]


def write_corpus(path: Path, lines: int) -> None:
    """Write a synthetic corpus."""
    random = np.random.default_rng(0)
    chances = 1 / (np.arange(50_000) + 2.7)
    with path.open("w", encoding="utf-8") as file:
        for begin in range(0, lines, 100_000):
            size = min(100_000, lines - begin)
            rows = random.choice(len(chances), size=(size, 10), p=chances / chances.sum()).tolist()
            file.writelines(" ".join(f"w{i}" for i in row) + "\n" for row in rows)


def time_vectors(folder: Path) -> None:
    """Time `encode` and `decode` of 10,000 sentences and as many points, and print it."""
    model = folder / "model"
    TextVAE.fit("grammar", max_epochs=1, output=model)
    corpus = load("grammar").train
    assert corpus is not None
    rows = corpus.texts(range(10_000)) * 5
    took: dict[str, list[float]] = {"encode": [], "decode": []}
    for count in (10_000, 50_000):
        (folder / "some.txt").write_text("\n".join(rows[:count]) + "\n", encoding="utf-8")
        np.save(folder / "z.npy", np.random.default_rng(0).standard_normal((count, 32), dtype=np.float32))
        seqvae = [sys.executable, "-m", "seqvae"]
        files = {"encode": ["some.txt", "--output", f"{folder}/out.npy"], "decode": ["z.npy"]}
        for name, (given, *rest) in files.items():
            took[name].append(time_command(*seqvae, name, str(model), str(folder / given), *rest, times=3))
    for name, (few, many) in took.items():
        print(f"| `seqvae {name}` of 10,000 | {few:.1f} s |")
        print(f"| of these the work | {40_000 / (many - few):,.0f} a second |", flush=True)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=5_000_000, help="of the large corpus")
    lines = parser.parse_args().lines
    print("| what | figure |\n| --- | ---: |")
    print(f"| `python -m seqvae --help` | {time_command(sys.executable, '-m', 'seqvae', '--help'):.2f} s |", flush=True)
    for program in ("import torch", "import torch, seqvae", "import torch; from seqvae import TextVAE"):
        print(f"| `{program}` | {time_command(sys.executable, '-c', program):.2f} s |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        time_vectors(Path(folder))
        path = Path(folder) / "large.txt"
        write_corpus(path, lines)
        print(f"| sentences tokenized by words | {run_program(TOKENIZE, str(path))[0]:,.0f} a second |", flush=True)
        for day in ("first day", "later day"):
            whole, after = run_program(FIRST, str(path), HF_DATASETS_CACHE=f"{folder}/cache")
            print(f"| first batch of {lines:,} lines, {day} | {whole:.1f} s |", flush=True)
            print(f"| of these after the corpus was read | {after:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
