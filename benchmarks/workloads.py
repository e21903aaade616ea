"""Workloads: each makes the two sides of a comparison on the same text, each when it is called."""

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.reference import Reference, optimizer, step
from seqvae.config import Config, Part
from seqvae.data.batch import END, Batch
from seqvae.data.batching import Batches, iterate_by_length
from seqvae.data.text.corpus import TextCorpus, TextSplit, load
from seqvae.data.text.sources import locate
from seqvae.evaluation.latent_space import bound_mutual_information
from seqvae.evaluation.likelihood import measure
from seqvae.model.decoding import beam_search, decode
from seqvae.model.distributions import build_diagonal_gaussian
from seqvae.model.modes import evaluating, evaluating_in
from seqvae.model.vae import SequenceVAE
from seqvae.training.build import build_model, build_objective, make
from seqvae.training.loop import Run, fit
from seqvae.training.precision import Precision, supports_bf16
from seqvae.training.runtime import make_accelerator
from seqvae.training.trainer import make_optimizer

LATENT, LONGEST, SAMPLES, POINTS, WIDTH = 32, 64, 500, 1024, 5
VOCABULARY, HIDDEN, DROPOUT = 10_000, 256, 0.5
LARGE = (
    9,
    20_000,
    40_000,
)  # synthetic text, as few corpora have so large a vocabulary: words a sentence, vocabulary, sentences

Work = Callable[[], float]  # does some work, and returns the number of units


@dataclass(frozen=True)
class Pair:
    """Two sides of a comparison.

    Attributes:
        unit: that is counted.
        ours, reference: build a side, with all that it needs, and return its work; None where there is nothing to
            compare with.
        ours_flops, reference_flops: operations of the matrix products of a unit; 0 = not counted.
    """

    unit: str
    ours: Callable[[], Work]
    reference: Callable[[], Work] | None = None
    ours_flops: float = 0.0
    reference_flops: float = 0.0


@cache
def load_corpus(name: str) -> TextCorpus:
    """Load a corpus with a vocabulary of at most 10,000 words."""
    return load(locate(name), vocabulary_size=VOCABULARY)


@cache
def make_corpus(words: int, vocabulary: int, sentences: int) -> TextCorpus:
    """Make a corpus of words sampled by Zipf's law, in which every word of the vocabulary occurs."""
    random = np.random.default_rng(0)
    chances = 1 / (np.arange(vocabulary) + 2.7)
    ids = random.choice(vocabulary, size=sentences * words, p=chances / chances.sum())
    ids = np.concatenate([np.arange(vocabulary), ids])[: max(sentences * words, vocabulary)]
    lines = [" ".join(f"w{i}" for i in row) for row in np.array_split(random.permutation(ids), sentences)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made-up.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return load(path, vocabulary_size=vocabulary + 4, max_length=words + 2)


def get_train(corpus: TextCorpus) -> TextSplit:
    """Return the training split."""
    assert corpus.train is not None
    return corpus.train


def config(embedding: int, hidden: int, **training: object) -> Config:
    """Return the defaults at the reference's sizes: one LSTM layer each, the last state, z at every step, N(0, I)."""
    encoder = {"name": "recurrent", "hidden": hidden, "bidirectional": False, "pooling": "last", "dropout": 0.0}
    decoder = {"name": "recurrent", "hidden": hidden, "dropout": DROPOUT, "skip": False}
    observation = {"name": "tokens", "tied": False} | training.pop("observation", {})  # type: ignore[call-overload]
    model = {"latent": LATENT, "embedding": embedding, "share_embedding": False, "prior": {"name": "normal"}}
    parts = {"encoder": encoder, "decoder": decoder, "observation": observation}
    return Config.from_dict({"model": model | parts, "training": {"max_epochs": 1000, **training}})


def make_reference(corpus: TextCorpus, embedding: int = HIDDEN, hidden: int = HIDDEN) -> Reference:
    """Make the reference with new weights."""
    return Reference(corpus.size, embedding, hidden, LATENT, dropout=DROPOUT)


def repeat_epochs(batches: Batches) -> Iterator[Batch]:
    """Yield the batches of epoch after epoch."""
    for epoch in itertools.count():
        yield from batches.epoch(epoch)


# Training


def training(name: str, large: bool = False, embedding: int = HIDDEN, hidden: int = HIDDEN, **options: object) -> Pair:
    """Steps, with all that belongs to them: batches, clipping, the optimizer, the metrics."""
    corpus = make_corpus(*LARGE) if large else load_corpus(name)
    chosen = config(embedding, hidden, **options)
    layers = count_lstm_weights(embedding, hidden) + count_lstm_weights(embedding + LATENT, hidden)
    touched = count_softmax_weights(corpus, hidden, chosen.model.observation)

    def reference() -> Work:
        plain = make_reference(corpus, embedding, hidden).train()
        rule, batches = optimizer(plain), repeat_epochs(Batches(get_train(corpus), batch_size=32, exact_length=True))
        return lambda: sum(step_reference(plain, rule, batch) for batch in itertools.islice(batches, 8))

    return Pair(
        "tokens/s",
        partial(make_steps, corpus, chosen),
        reference,
        6 * (layers + touched),
        6 * (layers + corpus.size * hidden),
    )


def make_steps(corpus: TextCorpus, chosen: Config) -> Work:
    """Return steps of this package's model."""
    steps = Run(chosen, corpus, accelerator=make_accelerator(chosen, None)).trainer.steps()
    return lambda: sum(next(steps).report.tokens for _ in range(4))


def clusters(name: str) -> Pair:
    """Training with the softmax by clusters beside the same with one softmax over all of 20,000 words."""
    corpus = make_corpus(*LARGE)
    with_, without = (config(HIDDEN, HIDDEN, observation={"head_size": size}) for size in (500, 0))
    return Pair("tokens/s", partial(make_steps, corpus, with_), partial(make_steps, corpus, without))


def step_reference(plain: Reference, rule: torch.optim.Optimizer, batch: Batch) -> int:
    """Make one step of the reference and return its number of targets."""
    step(plain, rule, batch.targets)
    return batch.tokens


def count_lstm_weights(inputs: int, hidden: int) -> int:
    """Count the weights of an LSTM layer."""
    return 4 * hidden * (inputs + hidden)


def count_softmax_weights(corpus: TextCorpus, hidden: int, observation: Part) -> float:
    """Count the weights that the softmax uses for a target, on average over the text."""
    tokens = make("model.observation", observation, vocabulary=corpus.size, embedding=1, features=1)
    head_size, *clusters = itertools.pairwise(tokens.output.edges)
    split = get_train(corpus)
    ids = np.concatenate(split.sequences(np.arange(min(len(split), 5000))))
    tails = sum((b - a) * np.mean((ids >= a) & (ids < b)) for a, b in clusters)
    return hidden * (head_size[1] + len(clusters) + float(tails))


def loop(name: str) -> Pair:
    """The overhead of the loop: a whole training beside bare steps of the same model and batches."""
    corpus = load_corpus(name)
    chosen = config(HIDDEN, HIDDEN, validate_every=10**9, precision="fp32")

    def ours() -> Work:
        folder = tempfile.TemporaryDirectory()  # for metrics.jsonl
        run = Run(chosen, corpus, Path(folder.name), accelerator=make_accelerator(chosen, None))

        def reports() -> Iterator[float]:
            with folder:
                for event in fit(run):
                    yield event.report.tokens  # type: ignore[union-attr]

        steps = reports()
        return lambda: sum(next(steps) for _ in range(4))

    def bare() -> Work:
        torch.manual_seed(0)
        model = build_model(chosen, corpus.size).train()
        objective = build_objective(chosen, vocabulary=corpus.size, sentences=len(get_train(corpus)))
        rule = make_optimizer(model, chosen.training)
        batches = itertools.cycle(list(itertools.islice(Batches(get_train(corpus), batch_size=64).epoch(0), 400)))

        def work() -> float:
            total = 0
            for batch in itertools.islice(batches, 4):
                rule.zero_grad()
                objective(model(batch), 2000)[0].backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                rule.step()
                total += batch.tokens
            return total

        return work

    return Pair("tokens/s", ours, bare)


# Scores


def likelihood(name: str, head_size: int = 500, precision: Precision = "fp32") -> Pair:
    """-log p(x) by 500 samples of z; ours by 16 sentences of similar length, as `seqvae evaluate` sorts them."""
    corpus = load_corpus(name)
    assert corpus.valid is not None
    some = list(iterate_by_length(corpus.valid.at_most(2048), batch_size=16))
    some = [some[i] for i in np.random.default_rng(0).permutation(len(some))]

    def ours() -> Work:
        model, turn = make_model(corpus, observation={"head_size": head_size}), itertools.cycle(some)

        def work() -> float:
            with evaluating_in(precision):
                return float(measure(model, [next(turn)], samples=SAMPLES).tokens.sum())

        return work

    def reference() -> Work:
        plain = make_reference(corpus).eval()
        turn = itertools.cycle(
            [row[None, :length] for _, b in some for row, length in zip(b.targets, b.lengths, strict=True)]
        )

        def work() -> float:
            done = list(itertools.islice(turn, 16))
            for x in done:
                plain.nll(x, SAMPLES)
            return sum(x.numel() for x in done)

        return work

    return Pair("tokens/s", ours, reference)


def make_model(corpus: TextCorpus, **training: object) -> SequenceVAE:
    """Make this package's model with new weights."""
    torch.manual_seed(0)
    return build_model(config(HIDDEN, HIDDEN, **training), corpus.size).eval()


def information(name: str) -> Pair:
    """Mutual information of z and 10,000 sentences, from their posteriors."""
    count = 10_000

    def ours() -> Work:
        torch.manual_seed(0)
        q = build_diagonal_gaussian(torch.randn(count, LATENT), torch.full((count, LATENT), math.exp(-0.5)))
        z, kl = q.rsample(), torch.full((count,), 10.0)

        def work() -> float:
            bound_mutual_information(q, z, kl)
            return count

        return work

    return Pair("sentences/s", ours)


def encoding(name: str, precision: Precision = "fp32") -> Pair:
    """Posterior means of sentences."""
    corpus = load_corpus(name)
    some = get_train(corpus).at_most(4096)

    def ours() -> Work:
        model = make_model(corpus)

        def work() -> float:
            with evaluating_in(precision), evaluating(model):
                return float(sum(len(model.encode(b).mean) for _, b in iterate_by_length(some, batch_size=256)))

        return work

    def reference() -> Work:
        plain = make_reference(corpus).eval()
        batches = list(itertools.islice(Batches(get_train(corpus), batch_size=32, exact_length=True).epoch(0), 32))
        return torch.no_grad()(lambda: sum(len(plain.encode(batch.source)[0]) for batch in batches))

    return Pair("sentences/s", ours, reference)


# Generation, by models that have learnt the frequencies of words and of EOS


@cache
def train_model(name: str, steps: int = 150) -> SequenceVAE:
    """Train this package's model for some steps."""
    chosen = config(HIDDEN, HIDDEN)
    run = Run(chosen, load_corpus(name), accelerator=make_accelerator(chosen, None))
    for _ in itertools.islice(run.trainer.steps(), steps):
        pass
    return run.model.eval()


@cache
def train_reference(name: str, steps: int = 150) -> Reference:
    """Train the reference for as many steps, by Adam, so that it has learnt as much."""
    corpus = load_corpus(name)
    plain = make_reference(corpus).train()
    adam = torch.optim.Adam(plain.parameters(), lr=4e-3)
    for batch in itertools.islice(repeat_epochs(Batches(get_train(corpus), batch_size=64, exact_length=True)), steps):
        step(plain, adam, batch.targets)
    return plain.eval()


def sample_prior() -> Tensor:
    """Draw (1024, D) samples of the prior."""
    return torch.randn(POINTS, LATENT, generator=torch.Generator().manual_seed(0))


def sampling(name: str) -> Pair:
    """1,024 sentences from the prior, at temperature 1."""

    def ours() -> Work:
        model = train_model(name)
        return lambda: count_tokens(decode(model, sample_prior(), max_length=LONGEST).tokens)

    def reference() -> Work:
        plain = train_reference(name)
        return lambda: count_tokens(plain.sample(sample_prior(), LONGEST).tolist())

    return Pair("tokens/s", ours, reference)


def beam(name: str) -> Pair:
    """Beam search, many points at once against one at a time."""

    def ours() -> Work:
        model = train_model(name)
        return lambda: count_tokens(beam_search(model, sample_prior()[:128], WIDTH, max_length=LONGEST).tokens)

    def reference() -> Work:
        plain, turn = train_reference(name), itertools.cycle(sample_prior().split(1))
        return lambda: count_tokens([plain.beam(one, WIDTH, LONGEST) for one in itertools.islice(turn, 4)])

    return Pair("tokens/s", ours, reference)


def count_tokens(sentences: Sequence[list[int]]) -> int:
    """Count the tokens of all sentences up to the first EOS: the two models generate different lengths."""
    return sum(ids.index(END) + 1 if END in ids else len(ids) for ids in sentences)


SAME: dict[str, Any] = {"precision": "fp32", "exact_length": True, "optimizer": "sgd", "observation": {"head_size": 0}}
WORKLOADS: dict[str, Callable[[str], Pair]] = {
    "training": training,
    "training-32": partial(training, batch_size=32),
    "training-plain": partial(training, batch_size=32, **SAME),
    "training-large": partial(training, large=True, embedding=512, hidden=1024),
    "clusters": clusters,
    "loop": loop,
    "likelihood": likelihood,
    "likelihood-plain": partial(likelihood, head_size=0),
    "information": information,
    "sampling": sampling,
    "beam": beam,
    "encoding": encoding,
}
if supports_bf16(torch.device("cpu")):
    WORKLOADS |= {
        "likelihood-bf16": partial(likelihood, precision="bf16"),
        "encoding-bf16": partial(encoding, precision="bf16"),
    }
