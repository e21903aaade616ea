"""Bounds of log p(x) for each sentence: the ELBO, and the importance-weighted one.

Always in fp32 with noise and dropout off, weight 1 and the unmodified KL. The noise of a sentence is a function of the
seed and of the sentence, so the same seed gives it the same numbers wherever it stands and whatever stands beside it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.batch import Batch
from seqvae.decoding import evaluating
from seqvae.divergences import kl, kl_dimensions
from seqvae.errors import ConfigError, CorpusError, TrainingError
from seqvae.measures.draws import draw_posterior, sentence_keys
from seqvae.measures.measured import Measured
from seqvae.measures.metrics import LogMeanExp
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


def validate(model: SequenceVAE, batches: Indexed, *, seed: int = 0) -> Bound:
    """The bound with one draw of z for each sentence: what validation while training looks at.

    The result is not checked, so that no process leaves the others waiting: `Bound.nll` is, after they were added.
    """
    total = Bound()
    with evaluating(model):
        for index, batch in batches:
            for part in _measure(model, index, batch, 1, [seed]):
                said, cost = float(part.reconstruction.sum()), float(part.kl.sum())
                total += Bound(len(part.index), int(part.tokens.sum()), said, cost)
    return total


def measure(model: SequenceVAE, batches: Indexed, *, samples: int = 100, seed: int = 0, seeds: int = 1) -> Measured:
    """The bound and the importance-weighted NLL of each sentence.

    -log p(x) <= -[logsumexp_k(log p(x|z_k) + log p(z_k) - log q(z_k|x)) - log K] in expectation, for K draws of
    q(z|x): Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, 2016, equation 8, arXiv:1509.00519.

    Args:
        model: put in evaluation mode while it works, then back.
        batches: each sentence once, with its place in the corpus; read once, in turn.
        samples: K; with 1 the NLL is one draw of -ELBO. Without a latent space all draws are equal, and one is drawn.
        seed: of the draws.
        seeds: how many importance-weighted passes there are, with seed, seed + 1, ...; all else is of the first.

    Raises:
        ConfigError: for fewer than 1 sample or seed.
        CorpusError: if there are no sentences.
        TrainingError: if a result is not finite.
    """
    for name, number in (("samples", samples), ("seeds", seeds)):
        if number < 1:
            raise ConfigError(f"{name} must be at least 1, got {number}")
    draws, passes = samples if model.latent else 1, range(seed, seed + seeds)
    with evaluating(model):
        parts = [part for index, batch in batches for part in _measure(model, index, batch, draws, passes)]
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


def _measure(model: SequenceVAE, index: Places, batch: Batch, samples: int, seeds: Sequence[int]) -> Iterator[Measured]:
    """Measure one batch in slices, so that neither the decoder nor the draws outgrow the memory."""
    p = model.prior()
    for places, part in slices(model, index, batch, DRAWS // (samples * max(1, model.latent))):
        keys, h = sentence_keys(part).cpu(), model.hidden(part)
        q = model.posterior(h)
        z = draw_posterior(model, h, q, keys, samples, seeds[0])  # (B, S, D)
        weights, said = weigh(model, part, q, p, z)
        again = [weigh(model, part, q, p, draw_posterior(model, h, q, keys, samples, seed))[0] for seed in seeds[1:]]
        divergence = kl(q, p, z.transpose(0, 1))  # (B,), or (S, B) where it has to be estimated
        yield Measured(
            index=places,
            key=keys,
            tokens=part.lengths.cpu(),
            ended=part.ended.cpu(),
            reconstruction=-said.mean(1).cpu(),
            kl=(divergence.mean(0) if divergence.dim() == 2 else divergence).double().cpu(),
            kl_dimensions=_kl_dimensions(q, p),
            samples=torch.full_like(places, samples),
            passes=-torch.stack([one.value() for one in (weights, *again)], dim=1).cpu(),
            effective=weights.effective_size().cpu(),
            first=-said[:, 0].cpu(),
            z=z[:, 0].cpu(),
            mean=q.mean.cpu(),
        )


def _kl_dimensions(q: Distribution, p: Distribution) -> Tensor | None:
    try:
        return kl_dimensions(q, p).double().cpu()
    except NotImplementedError:
        return None


def weigh(
    model: SequenceVAE, batch: Batch, q: Distribution, p: Distribution, z: Tensor, share: float = 1.0
) -> tuple[LogMeanExp, Tensor]:
    """Importance weights w = p(x|z) p(z) / r(z) of draws of r = share q(z|x) + (1 - share) p(z).

    Args:
        model: in evaluation mode.
        batch: B sentences on the device of the model.
        q: batch (B,), event (D,).
        p: batch () or (B,), event (D,).
        z: (B, S, D); the decoder takes them on the budget of steps.
        share: of q among the draws, above 0.

    Returns:
        the mean of w and its effective size, and (B, S) float64 log p(x|z).
    """
    weights, said = LogMeanExp(), []
    for some in z.split(max(1, BUDGET // batch.targets.numel()), dim=1):
        points = some.transpose(0, 1)  # (S, B, D)
        cost = (q.log_prob(points) - p.log_prob(points)).double().T  # (B, S), log r - log p
        if share < 1:
            cost = torch.logaddexp(cost + math.log(share), torch.full_like(cost, math.log(1 - share)))
        said.append(log_likelihood(model, batch.repeat(some.shape[1]), some.flatten(0, 1)).view(cost.shape))
        weights.add(said[-1] - cost)
    return weights, torch.cat(said, dim=1)


def log_likelihood(model: SequenceVAE, batch: Batch, z: Tensor) -> Tensor:
    """(B,) float64, log p(x|z)."""
    return model.log_prob(batch, z).double().sum(1)


def slices(model: SequenceVAE, index: Places, batch: Batch, most: int) -> Iterator[tuple[Tensor, Batch]]:
    """The batch in pieces of at most `most` rows and `BUDGET` steps, on the device of the model."""
    width = max(1, min(most, BUDGET // batch.targets.shape[1]))
    for places, rows in zip(
        torch.as_tensor(index).long().split(width), torch.arange(len(batch)).split(width), strict=True
    ):
        yield places, batch.select(rows).to(device_of(model))


def device_of(model: SequenceVAE) -> torch.device:
    """Where the model computes."""
    return next(model.parameters()).device
