"""What is timed: each workload makes the two sides of a comparison, both warm, on the same text."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch

from benchmarks.reference import Reference, optimizer, step
from seqvae.batch import Batch
from seqvae.build import build_model
from seqvae.config import Config
from seqvae.decoding import beam_search, decode
from seqvae.fitting import Run
from seqvae.measures.bounds import measure
from seqvae.processes import accelerator_for
from seqvae.text.batching import Batches, ordered
from seqvae.text.corpus import Corpus, Split, load
from seqvae.text.sources import located
from seqvae.vae import SequenceVAE

LATENT, LONGEST, SAMPLES, DRAWN, WIDTH = 32, 64, 500, 1024, 5


@dataclass(frozen=True)
class Pair:
    """Two sides of a comparison.

    Attributes:
        name: of the workload.
        unit: of what is counted.
        ours, reference: do some work and return how many units that was; None where there is nothing to compare with.
        ours_flops, reference_flops: operations of the matrix products of a unit; 0 = not counted.
    """

    name: str
    unit: str
    ours: Callable[[], float]
    reference: Callable[[], float] | None = None
    ours_flops: float = 0.0
    reference_flops: float = 0.0


@dataclass(frozen=True)
class Text:
    """A corpus under vocabularies of several sizes."""

    name: str

    @cache  # noqa: B019 - there is one text a process
    def corpus(self, vocabulary: int) -> Corpus:
        """Words, at most so many different ones."""
        return load(located(self.name), vocabulary_size=vocabulary)


def text_of(name: str) -> Text:
    """The corpus of this name, read when it is needed."""
    return Text(name)


def config(embedding: int, hidden: int, **training: object) -> Config:
    """The default configuration at the reference's sizes: one LSTM layer each way, the last state, z at every step."""
    dropout = 0.5
    encoder = {"name": "recurrent", "hidden": hidden, "bidirectional": False, "pooling": "last", "dropout": 0.0}
    decoder = {"name": "recurrent", "hidden": hidden, "dropout": dropout, "skip": False}
    observation = {"name": "tokens", "tied": False} | training.pop("observation", {})  # type: ignore[call-overload]
    model = {"latent": LATENT, "embedding": embedding, "share_embedding": False}
    parts = {"encoder": encoder, "decoder": decoder, "observation": observation}
    return Config.from_dict({"model": model | parts, "training": {"max_epochs": 1000, **training}})


def lstm(inputs: int, hidden: int) -> int:
    """Weights of an LSTM layer."""
    return 4 * hidden * (inputs + hidden)


def softmax_weights(split: Split, size: int, hidden: int, shortlist: int, growth: int = 4) -> float:
    """Weights that the softmax touches for a target, on average over the text."""
    if not shortlist:
        return size * hidden
    ids = np.concatenate(split.sequences(np.arange(min(len(split), 5000))))
    edges = [shortlist]
    while edges[-1] < size:
        edges.append(min(size, edges[-1] * growth))
    tails = sum((b - a) * np.mean((ids >= a) & (ids < b)) for a, b in itertools.pairwise(edges))
    return hidden * (shortlist + len(edges) - 1 + float(tails))


def training(text: Text, name: str, vocabulary: int, embedding: int, hidden: int, **options: object) -> Pair:
    """Updates, all that belongs to them included: batches, clipping, the optimizer, the report."""
    corpus = text.corpus(vocabulary)
    assert corpus.train is not None
    chosen = config(embedding, hidden, **options)
    run = Run(chosen, corpus, accelerator=accelerator_for(chosen, None))
    steps = run.trainer.steps()
    plain = Reference(corpus.size, embedding, hidden, LATENT, dropout=0.5).train()
    rule, batches = optimizer(plain), endless(Batches(corpus.train, batch_size=32, exact_length=True))

    def ours() -> float:
        return sum(next(steps).report.tokens for _ in range(4))

    def reference() -> float:
        total = 0
        for batch in itertools.islice(batches, 8):
            step(plain, rule, batch.targets)
            total += batch.tokens
        return total

    layers = lstm(embedding, hidden) + lstm(embedding + LATENT, hidden)
    shortlist = run.model.observation.edges[1] if run.model.observation.clusters is not None else 0
    touched = softmax_weights(corpus.train, corpus.size, hidden, shortlist)
    full = softmax_weights(corpus.train, corpus.size, hidden, 0)
    return Pair(name, "tokens/s", ours, reference, 6 * (layers + touched), 6 * (layers + full))


def endless(batches: Batches) -> Iterator[Batch]:
    """Epoch after epoch."""
    for epoch in itertools.count():
        yield from batches.epoch(epoch)


def models(text: Text) -> tuple[SequenceVAE, Reference, Corpus]:
    """Both with new weights."""
    corpus = text.corpus(10_000)
    torch.manual_seed(0)
    ours = build_model(config(256, 256), corpus.size).eval()
    reference = Reference(corpus.size, 256, 256, LATENT, dropout=0.5).eval()
    return ours, reference, corpus


def likelihood(text: Text) -> Pair:
    """-log p(x) by 500 draws of z."""
    model, plain, corpus = models(text)
    assert corpus.valid is not None
    some = corpus.valid.at_most(64)

    def ours() -> float:
        measure(model, ordered(some), samples=SAMPLES)
        return len(some)

    turn = itertools.cycle([torch.tensor([ids]) for ids in some.sequences(np.arange(len(some)))])

    def reference() -> float:
        for x in itertools.islice(turn, 8):
            plain.nll(x, SAMPLES)
        return 8

    return Pair("likelihood", "sentences/s", ours, reference)


def sampling(text: Text) -> Pair:
    """1,024 sentences from the prior, at temperature 1, by models that were trained for some updates."""
    model, plain = trained(text)
    z = torch.randn(DRAWN, LATENT)

    def ours() -> float:
        return len(decode(model, z, max_length=LONGEST).tokens)

    def reference() -> float:
        return len(plain.sample(z, LONGEST))

    return Pair("sampling", "sentences/s", ours, reference)


def beam(text: Text) -> Pair:
    """Beam search, many points at once against one at a time."""
    model, plain = trained(text)
    z = torch.randn(DRAWN, LATENT)
    turn = itertools.cycle(z.split(1))

    def ours() -> float:
        return len(beam_search(model, z[:128], WIDTH, max_length=LONGEST).tokens)

    def reference() -> float:
        for one in itertools.islice(turn, 4):
            plain.beam(one, WIDTH, LONGEST)
        return 4

    return Pair("beam", "sentences/s", ours, reference)


@cache
def trained(text: Text, updates: int = 150) -> tuple[SequenceVAE, Reference]:
    """Models that have learnt how often words and ends come."""
    corpus = text.corpus(10_000)
    assert corpus.train is not None
    run = Run(config(256, 256), corpus)
    for _ in itertools.islice(run.trainer.steps(), updates):
        pass
    plain = Reference(corpus.size, 256, 256, LATENT, dropout=0.5)
    adam = torch.optim.Adam(plain.parameters(), lr=4e-3)
    for batch in itertools.islice(endless(Batches(corpus.train, batch_size=64, exact_length=True)), updates):
        step(plain, adam, batch.targets)
    return run.model.eval(), plain.eval()


def encoding(text: Text) -> Pair:
    """Posterior means of sentences."""
    model, plain, corpus = models(text)
    assert corpus.train is not None
    some = corpus.train.at_most(4096)

    @torch.no_grad()
    def ours() -> float:
        return sum(len(model.encode(batch).mean) for _, batch in ordered(some, batch_size=256))

    same = list(itertools.islice(Batches(corpus.train, batch_size=32, exact_length=True).epoch(0), 32))

    @torch.no_grad()
    def reference() -> float:
        return sum(len(plain.encode(batch.source)[0]) for batch in same)

    return Pair("encoding", "sentences/s", ours, reference)


WORKLOADS: dict[str, Callable[[Text], Pair]] = {
    "training": partial(training, name="training", vocabulary=10_000, embedding=256, hidden=256),
    "training-32": partial(training, name="training-32", vocabulary=10_000, embedding=256, hidden=256, batch_size=32),
    "training-plain": partial(
        training,
        name="training-plain",
        vocabulary=10_000,
        embedding=256,
        hidden=256,
        batch_size=32,
        precision="fp32",
        exact_length=True,
        optimizer="sgd",
        observation={"shortlist": 0},
    ),
    "training-large": partial(training, name="training-large", vocabulary=20_000, embedding=512, hidden=1024),
    "likelihood": likelihood,
    "sampling": sampling,
    "beam": beam,
    "encoding": encoding,
}
