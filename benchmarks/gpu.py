"""What a GPU computes, beside the processor, and how fast it trains, scores and samples, beside what it could do.

    python -m benchmarks.gpu [--quick] [--output FILE]

It needs about two minutes. A rate is the median over the rounds; in each round this package and the plain reference of
benchmarks/reference.py run one after the other. "of limit" is the fraction of what a plain product of large matrices
reaches in the same precision in the same run, the operations of matrix products counted alone. MiB is the most that was
held on the GPU beyond what was there before. With --quick all sizes are tiny: a dry run, for any machine.
"""

import argparse
import gc
import itertools
import math
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from seqvae.training.machine import keep_freed_memory, share_cores

share_cores()  # before torch is imported

import torch  # noqa: E402

from benchmarks.agreement import CUDA, DEVICE, compare_devices, format_row, use_precision  # noqa: E402
from benchmarks.reference import optimizer, step  # noqa: E402
from benchmarks.speed import rate, time_best  # noqa: E402
from benchmarks.workloads import LARGE, Work, config, get_train, make_corpus, make_reference, repeat_epochs, training  # noqa: E402
from seqvae.data.batching import Batches, iterate_by_length  # noqa: E402
from seqvae.data.text.corpus import TextCorpus  # noqa: E402
from seqvae.evaluation import likelihood  # noqa: E402
from seqvae.model.decoding import decode  # noqa: E402
from seqvae.training.build import build_model  # noqa: E402
from seqvae.training.runtime import decide_precision  # noqa: E402

PRECISIONS = ("fp32", "tf32", "bf16") if CUDA else ("fp32", "bf16")


@dataclass(frozen=True)
class Sizes:
    """Pairs of embedding and LSTM units, sentences a batch, rows of the matrices of the limit, and how much is done."""

    layers: tuple[tuple[int, int], ...] = ((256, 256), (512, 1024))
    batches: tuple[int, ...] = (64, 512)
    matrix: int = 8192
    rounds: int = 3
    seconds: float = 0.5  # of each side in each round
    steps: int = 150  # of the model that processor and GPU are compared with
    compared: int = 256  # sentences
    scored: int = 64  # sentences
    samples: int = 500
    points: tuple[int, ...] = (1024, 16384)
    longest: int = 24  # tokens of a sampled sentence


QUICK = Sizes(((16, 16), (16, 24)), (8, 16), 256, 1, 0.05, 10, 16, 4, 8, (8, 16), 6)


def wait() -> None:
    """Wait until the GPU has done all that it was asked."""
    if CUDA:
        torch.cuda.synchronize()


def measure_limits(size: int) -> dict[str, float]:
    """Measure the 1e12 operations a second that a product of two (size, size) matrices reaches in each precision."""
    found = {}
    for name in PRECISIONS:
        with use_precision(name) as half:
            a, b = torch.randn(2, size, size, device=DEVICE).to(torch.bfloat16 if half else torch.float32)
            found[name] = 2 * size**3 / time_best(lambda a=a, b=b: (a @ b, wait())) / 1e12
    return found


def describe(limits: dict[str, float]) -> str:
    """Describe what this is measured on."""
    name = torch.cuda.get_device_name() if CUDA else "no GPU: a dry run on the processor"
    reached = ", ".join(f"{precision} {value:.4g}" for precision, value in limits.items())
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, Python {sys.version.split()[0]}"
    return f"{name}; {versions}; limits: {reached} (1e12 operations/s)"


def measure_rates(sizes: Sizes, *sides: Callable[[], Work]) -> list[tuple[float, float]]:
    """Measure the units a second of each side, in turn, and the MiB of the GPU that it takes (0 on the processor)."""
    works, memory = [], []
    for side in sides:
        gc.collect()
        before = torch.cuda.memory_allocated() if CUDA else 0
        if CUDA:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        works.append(side())
        rate(works[-1], sizes.seconds / 2)
        memory.append((torch.cuda.max_memory_allocated() - before) / 2**20 if CUDA else 0.0)
    found = [[rate(work, sizes.seconds) for work in works] for _ in range(sizes.rounds)]
    return list(zip(map(statistics.median, zip(*found, strict=True)), memory, strict=True))


def train_reference(corpus: TextCorpus, embedding: int, hidden: int, batch_size: int, half: bool) -> Work:
    """Prepare steps of the reference on the device."""
    with torch.device(DEVICE):
        plain = make_reference(corpus, embedding, hidden).train()
    rule = optimizer(plain)
    batches = repeat_epochs(Batches(get_train(corpus), batch_size=batch_size, exact_length=True))

    def work() -> float:
        some = list(itertools.islice(batches, 4))
        for batch in some:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
                step(plain, rule, batch.targets.to(DEVICE))
        return sum(batch.tokens for batch in some)

    return work


def measure_training(sizes: Sizes, limits: dict[str, float]) -> Iterator[str]:
    """Measure steps of training for each size, batch and precision; lines of a table."""
    yield "| LSTM | batch | precision | tokens/s | of limit | MiB | reference, tokens/s | of limit | MiB | ratio |"
    yield "| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    corpus = make_corpus(*LARGE)
    for (embedding, hidden), size, name in itertools.product(sizes.layers, sizes.batches, PRECISIONS):
        with use_precision(name) as half:
            options = {"batch_size": size, "precision": "bf16" if half else "fp32"}
            pair = training("", large=True, embedding=embedding, hidden=hidden, **options)
            sides = measure_rates(sizes, pair.ours, partial(train_reference, corpus, embedding, hidden, size, half))
        cells = []
        for (units, memory), flops in zip(sides, (pair.ours_flops, pair.reference_flops), strict=True):
            cells += [f"{units:,.0f}", f"{units * flops / limits[name] / 1e12:.1%}", f"{memory:,.0f}"]
        yield format_row(hidden, size, name, *cells, f"{sides[0][0] / sides[1][0]:.2f}")


def measure_use(sizes: Sizes) -> Iterator[str]:
    """Measure scores and samples of a new model of the first size, in fp32; lines of a table."""
    yield "| work | unit | rate | MiB | reference | MiB | ratio |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    corpus, layers = make_corpus(*LARGE), sizes.layers[0]
    usual = likelihood.MAX_TOKENS, likelihood.GPU_FACTOR
    model = build_model(config(*layers), corpus.size).to(DEVICE).eval()
    with torch.device(DEVICE):
        plain = make_reference(corpus, *layers).eval()
    some = list(iterate_by_length(get_train(corpus).at_most(sizes.scored), batch_size=16))

    def score(steps: int) -> float:
        likelihood.MAX_TOKENS, likelihood.GPU_FACTOR = steps, 1
        done = likelihood.measure(model, some, samples=sizes.samples).nll
        likelihood.MAX_TOKENS, likelihood.GPU_FACTOR = usual
        return len(done) * sizes.samples

    def score_plainly(_: int) -> float:
        with torch.device(DEVICE):
            done = [plain.nll(x[None], sizes.samples) for _, batch in some for x in batch.targets.to(DEVICE)]
        return len(done) * sizes.samples

    def sample(count: int) -> float:
        return len(decode(model, torch.randn(count, model.latent), max_length=sizes.longest).tokens)

    def sample_plainly(count: int) -> float:
        with torch.device(DEVICE):
            return len(plain.sample(torch.randn(count, model.latent), sizes.longest).tolist())

    scoring, sampling = ("sentences x samples/s", score, score_plainly), ("sentences/s", sample, sample_plainly)
    rows = {f"-log p(x), {n:,} tokens a call": (n, *scoring) for n in (usual[0], math.prod(usual))}
    rows |= {f"{n:,} samples of {sizes.longest} tokens": (n, *sampling) for n in sizes.points}
    for name, (number, unit, *works) in rows.items():
        sides = measure_rates(sizes, *(lambda work=work, n=number: partial(work, n) for work in works))
        cells = [f"{value:,.0f}" for side in sides for value in side]
        yield format_row(name, unit, *cells, f"{sides[0][0] / sides[1][0]:.2f}")


def explain(sizes: Sizes) -> Iterator[str]:
    """Tell what `--precision auto` takes for each size, and how often a step of training waits for the GPU."""
    for layers in sizes.layers:
        yield f"- `--precision auto`, LSTM {layers[1]:,}: {decide_precision(config(*layers, precision='auto'))[1]}"
    if not CUDA:
        return
    steps = training("", large=True, precision="bf16").ours
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        work = steps()
        work()
        seen.clear()
        torch.cuda.set_sync_debug_mode("warn")
        work()
        torch.cuda.set_sync_debug_mode("default")
    yield f"- a training step waits for the GPU {sum('synchroniz' in str(one.message) for one in seen) / 4:g} times"


def report(sizes: Sizes) -> Iterator[str]:
    """Measure everything; yield each line as soon as it is known."""
    limits = measure_limits(sizes.matrix)
    yield describe(limits)
    parts = {
        "The same numbers": compare_devices(sizes.steps, sizes.compared),
        "Training": measure_training(sizes, limits),
    }
    for title, lines in (parts | {"Use": measure_use(sizes), "Choices": explain(sizes)}).items():
        yield f"\n## {title}\n"
        yield from lines


def main() -> None:
    """Measure, print, and write to the file if one is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a dry run, for any machine")
    parser.add_argument("--output", type=Path, help="also write the report here, line by line")
    given = parser.parse_args()
    if not (given.quick or CUDA):
        parser.error("there is no GPU here: write --quick for a dry run on the processor")
    keep_freed_memory()
    for line in report(QUICK if given.quick else Sizes()):
        print(line, flush=True)
        if given.output:
            with given.output.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
