"""Bounds of log p(x) for each sentence: the ELBO, and the importance-weighted one.

Always in fp32 with noise and dropout off, weight 1 and the unmodified KL. The noise of a sentence is a function of the
seed and of its place in the corpus, so the same seed gives the same numbers however sentences are put into batches.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.batch import END, Batch
from seqvae.decoding import evaluating, seeded
from seqvae.divergences import kl
from seqvae.errors import ConfigError, CorpusError, TrainingError
from seqvae.metrics import LogMeanExp, gaussian, keyed_normal
from seqvae.vae import SequenceVAE

# Each sentence of a split once: their places in the corpus, and their batch.
Places = Sequence[int] | Tensor | np.ndarray
Indexed = Iterable[tuple[Places, Batch]]

BUDGET = 2048  # steps (rows * T) that one call of the decoder carries
DRAWS = 4_000_000  # numbers (B * S * D) of latent noise held at once


@dataclass(frozen=True)
class Bound:
    """The true bound (weight 1, raw KL) as sums, so that the parts of several processes can be added.

    >>> Bound(2, 10, 40.0, 6.0) + Bound(1, 5, 20.0, 3.0)
    Bound(sentences=3, tokens=15, reconstruction=60.0, kl=9.0)
    """

    sentences: int = 0
    tokens: int = 0
    reconstruction: float = 0.0
    kl: float = 0.0

    def __add__(self, other: "Bound") -> "Bound":
        return Bound.of(self.tensor() + other.tensor())

    def tensor(self) -> Tensor:
        """(4,) float64 on the CPU, to be summed over processes and read back by `Bound.of`."""
        return torch.tensor([self.sentences, self.tokens, self.reconstruction, self.kl], dtype=torch.float64)

    @classmethod
    def of(cls, sums: Tensor) -> "Bound":
        """Read back what `tensor` wrote."""
        sentences, tokens, reconstruction, divergence = sums.tolist()
        return cls(round(sentences), round(tokens), reconstruction, divergence)

    @property
    def nll(self) -> float:
        """-ELBO, nats per sentence; raises a `TrainingError` if it is not finite."""
        value = (self.reconstruction + self.kl) / max(self.sentences, 1)
        if not math.isfinite(value):
            raise TrainingError(
                f"the bound is not finite: reconstruction {self.reconstruction}, KL {self.kl} nats in all; "
                "the model has diverged or its weights are damaged"
            )
        return value


@dataclass(frozen=True)
class Measured:
    """Per sentence, N rows in the order of the corpus.

    Attributes:
        index: (N,) int64, the place in the corpus.
        tokens: (N,) int64, how many targets were scored.
        ended: (N,) bool, whether an end of sentence was among them.
        reconstruction: (N,) float64, -log p(x|z), nats, mean over the draws.
        kl: (N,) float64, nats.
        nll: (N,) float64, -log p(x) by importance weighting, nats.
        first: (N,) float64, -log p(x|z) of the first draw.
        z: (N, D), the first draw.
        mean: (N, D), the posterior mean.
    """

    index: Tensor
    tokens: Tensor
    ended: Tensor
    reconstruction: Tensor
    kl: Tensor
    nll: Tensor
    first: Tensor
    z: Tensor
    mean: Tensor

    @classmethod
    def join(cls, parts: Sequence["Measured"]) -> "Measured":
        """All parts as one, in the order of the corpus."""
        order = torch.cat([part.index for part in parts]).argsort()
        columns = (torch.cat([getattr(part, column.name) for part in parts]) for column in fields(cls))
        return cls(*(column[order] for column in columns))


def validate(model: SequenceVAE, batches: Indexed, *, seed: int = 0) -> Bound:
    """The bound with one draw of z for each sentence: what validation while training looks at.

    The result is not checked, so that no process leaves the others waiting: `Bound.nll` is, after they were added.
    """
    total = Bound()
    with evaluating(model):
        for index, batch in batches:
            for part in _measure(model, index, batch, 1, seed):
                said, cost = float(part.reconstruction.sum()), float(part.kl.sum())
                total += Bound(len(part.index), int(part.tokens.sum()), said, cost)
    return total


def measure(model: SequenceVAE, batches: Indexed, *, samples: int = 100, seed: int = 0) -> Measured:
    """The bound and the importance-weighted NLL of each sentence.

    -log p(x) <= -[logsumexp_k(log p(x|z_k) + log p(z_k) - log q(z_k|x)) - log K] in expectation, for K draws of
    q(z|x): Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, 2016, equation 8, arXiv:1509.00519.

    Args:
        model: put in evaluation mode while it works, then back.
        batches: each sentence once, with its place in the corpus; read once, in turn.
        samples: K; with 1 the NLL is one draw of -ELBO.
        seed: of the draws.

    Raises:
        CorpusError: if there are no sentences.
        TrainingError: if a result is not finite.
    """
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    with evaluating(model):
        parts = [part for index, batch in batches for part in _measure(model, index, batch, samples, seed)]
    if not parts:
        raise CorpusError("there is no sentence to score")
    table = Measured.join(parts)
    for name in ("reconstruction", "kl", "nll"):
        wrong = (~getattr(table, name).isfinite()).nonzero()
        if len(wrong):
            place, value = int(table.index[wrong[0]]), float(getattr(table, name)[wrong[0]])
            raise TrainingError(
                f"the {name} of sentence {place} is {value}: the model has diverged or its weights are damaged"
            )
    return table


def _measure(model: SequenceVAE, index: Places, batch: Batch, samples: int, seed: int) -> Iterator[Measured]:
    """Measure one batch in slices, so that neither the decoder nor the draws outgrow the memory."""
    p = model.prior()
    for keys, part in slices(model, index, batch, DRAWS // (samples * max(1, model.latent))):
        h = model.encoder(part)
        q = model.posterior(h)
        z = _draw(model, h, q, keys, samples, seed)  # (B, S, D)
        weights, said = LogMeanExp(), []
        for some in z.split(max(1, BUDGET // part.targets.numel()), dim=1):
            points = some.transpose(0, 1)  # (S, B, D)
            cost = (q.log_prob(points) - p.log_prob(points)).double().T  # (B, S)
            said.append(log_likelihood(model, part.repeat(some.shape[1]), some.flatten(0, 1)).view(cost.shape))
            weights.add(said[-1] - cost)
        divergence = kl(q, p, z.transpose(0, 1))  # (B,), or (S, B) where it has to be estimated
        reconstruction = -torch.cat(said, dim=1)
        ended = part.targets.gather(1, part.lengths[:, None] - 1)[:, 0] == END
        yield Measured(
            index=keys,
            tokens=part.lengths.cpu(),
            ended=ended.cpu(),
            reconstruction=reconstruction.mean(1).cpu(),
            kl=(divergence.mean(0) if divergence.dim() == 2 else divergence).double().cpu(),
            nll=-weights.value().cpu(),
            first=reconstruction[:, 0].cpu(),
            z=z[:, 0].cpu(),
            mean=q.mean.cpu(),
        )


def _draw(model: SequenceVAE, h: Tensor, q: Distribution, index: Tensor, samples: int, seed: int) -> Tensor:
    """(B, S, D) draws of q, those of a sentence a function of the seed and its index alone."""
    normal = gaussian(q)
    if normal is not None:
        mean, scale = (part[:, None] for part in normal)
        return mean + scale * keyed_normal(seed, index, samples, mean.shape[-1]).to(mean)
    rows = []
    with seeded(0):
        for row, place in zip(h.split(1), index.tolist(), strict=True):
            torch.manual_seed((seed * 1_000_003 + place) % 2**63)
            rows.append(model.posterior(row).sample((samples,))[:, 0])
    return torch.stack(rows)


def log_likelihood(model: SequenceVAE, batch: Batch, z: Tensor) -> Tensor:
    """(B,) float64, log p(x|z)."""
    return model.log_prob(batch, z).double().sum(1)


def slices(model: SequenceVAE, index: Places, batch: Batch, most: int) -> Iterator[tuple[Tensor, Batch]]:
    """The batch in pieces of at most `most` rows and `BUDGET` steps, on the device of the model."""
    width = max(1, min(most, BUDGET // batch.targets.shape[1]))
    for keys, rows in zip(
        torch.as_tensor(index).long().split(width), torch.arange(len(batch)).split(width), strict=True
    ):
        yield keys, batch.select(rows).to(device_of(model))


def device_of(model: SequenceVAE) -> torch.device:
    """Where the model computes."""
    return next(model.parameters()).device
