"""Bounds of log p(x) for each sentence: the ELBO, and the importance-weighted one.

Always in fp32 with noise and dropout off, weight 1 and the unmodified KL. The noise of a sentence is a function of the
seed and of the sentence, so the same seed gives it the same numbers wherever it stands and whatever stands beside it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, CorpusError, TrainingError
from seqvae.evaluation.metrics import LogMeanExp
from seqvae.model.distributions import FlowDistribution, gaussian, kl, kl_dimensions
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE
from seqvae.rng import keyed_normal, mix, seeded

Places = Sequence[int] | Tensor | np.ndarray
Indexed = Iterable[tuple[Places, Batch]]


@dataclass(frozen=True)
class Measured:
    """Per sentence, N rows in the order of the corpus.

    Attributes:
        index: (N,) int64, the place in the corpus.
        key: (N,) int64, what its draws are keyed by (see `seqvae.evaluation.likelihood.sentence_keys`).
        tokens: (N,) int64, how many targets were scored.
        ended: (N,) bool, whether an end of sentence was among them.
        reconstruction: (N,) float64, -log p(x|z), nats, mean over the draws.
        kl: (N,) float64, nats.
        kl_dimensions: (N, D) float64, that of each latent dimension; None where it does not factorize.
        samples: (N,) int64, the draws of one importance-weighted pass.
        passes: (N, R) float64, -log p(x) by importance weighting, nats, one column for each seed.
        effective: (N,) float64, the effective sample size of the first pass, from 1 to `samples`.
        first: (N,) float64, -log p(x|z) of the first draw.
        z: (N, D), the first draw.
        mean: (N, D), the posterior mean.
    """

    index: Tensor
    key: Tensor
    tokens: Tensor
    ended: Tensor
    reconstruction: Tensor
    kl: Tensor
    kl_dimensions: Tensor | None
    samples: Tensor
    passes: Tensor
    effective: Tensor
    first: Tensor
    z: Tensor
    mean: Tensor

    @cached_property
    def nll(self) -> Tensor:
        """(N,) float64, -log p(x), nats: the mean over the passes."""
        return self.passes.mean(1)

    @classmethod
    def join(cls, parts: Sequence["Measured"]) -> "Measured":
        """All parts as one, in the order of the corpus."""
        order = torch.cat([part.index for part in parts]).argsort()
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        joined: dict[str, Any] = {
            name: None if column[0] is None else torch.cat(column)[order] for name, column in columns.items()
        }
        return cls(**joined)


PRIOR = 0x9E3779B9  # sets the draws of the prior apart from those of the posterior with the same seed


def sentence_keys(batch: Batch) -> Tensor:
    """Hash each sentence, its targets in their order and its label; or each series, its numbers but not their unit.

    The same sentence has the same key in any place, batch and process and on any machine: the sum over its targets x_t
    of the hashes of (t, x_t), hashed with the label.

    Args:
        batch: B sentences or series; padding does not count.

    Returns:
        (B,) int64; two different sentences share one with a probability of 2^-64.

    >>> same = sentence_keys(Batch.of([[4, 2], [5, 4, 2], [4, 2]]))
    >>> bool(same[0] == same[2]), bool(same[0] == same[1])
    (True, False)
    """
    values = _bits(batch) if batch.real else batch.targets
    places = torch.arange(values[0].numel(), device=values.device).view(values.shape[1:])
    hashes = mix(mix(places) + values).view(*values.shape[:2], -1).sum(2)
    total = torch.where(batch.mask, hashes, 0).sum(1)
    return mix(total if batch.labels is None else total + mix(batch.labels + 1))


def _bits(batch: Batch) -> Tensor:
    """(B, T, 1 + F) int64: the numbers of series, in units of a power of 2 in which the largest of a channel is near 1.

    So a series has the same key in a unit that is a power of 2 times as large.
    """
    values = batch.targets.double()
    largest = torch.where(batch.mask[..., None], values.abs(), 0.0).amax(1, keepdim=True)
    unit = torch.where(largest > 0, largest / torch.frexp(largest).mantissa, 1.0)  # a power of 2: no digit is lost
    return (values / unit + 0.0).view(torch.int64)  # where -0.0 is 0.0


def draw_posterior(model: SequenceVAE, h: Tensor, q: Distribution, keys: Tensor, samples: int, seed: int) -> Tensor:
    """Draws of q(z|x) for B sentences; more draws begin with the fewer if q is Gaussian.

    Args:
        model: whose posterior it is.
        h: (B, H), the encoder's vectors.
        q: batch (B,), event (D,): the posterior of `h`.
        keys: (B,) int64, those of the sentences (see `sentence_keys`).
        samples: S.
        seed: any integer.

    Returns:
        (B, S, D).
    """
    return draw(q, lambda row: model.posterior(h[row : row + 1]).sample((samples,))[:, 0], keys, samples, seed)


def draw_prior(p: Distribution, keys: Tensor, samples: int, seed: int) -> Tensor:
    """(B, S, D) draws of the prior, S for each of B keys, apart from the posterior's with that seed."""
    return draw(p, lambda _: p.sample((samples,)), keys, samples, seed + PRIOR)


def draw(distribution: Distribution, alone: Callable[[int], Tensor], keys: Tensor, samples: int, seed: int) -> Tensor:
    """Draw from keyed noise where the distribution is Gaussian or a map of it, else row by row from its own stream.

    Args:
        distribution: batch (B,), or () for the same distribution in each row; event (D,).
        alone: (S, D) draws of one row, from the global stream.
        keys: (B,) int64.
        samples: S.
        seed: any integer.

    Returns:
        (B, S, D).
    """
    normal = gaussian(distribution)
    if normal is not None:
        mean, scale = (part.unsqueeze(-2) for part in normal)  # (B, 1, D), or (1, D) of a prior
        return mean + scale * keyed_normal(seed, keys, samples, mean.shape[-1]).to(mean)
    if isinstance(distribution, FlowDistribution):  # row by row its many passes would take minutes
        noise = keyed_normal(seed, keys, samples, distribution.event_shape[0])
        return distribution.push(noise.to(distribution.like.device))
    rows = []
    for row, key in enumerate(mix(keys + mix(torch.tensor(seed % 2**63))).tolist()):
        with seeded(key % 2**63):
            rows.append(alone(row))
    return torch.stack(rows)


def mixture_nll(model: SequenceVAE, batches: Indexed, *, samples: int = 100, seed: int = 0) -> Tensor:
    """The importance-weighted NLL of each sentence by draws of r(z) = (q(z|x) + p(z)) / 2.

    -log p(x) <= -[logsumexp_k(log p(x|z_k) + log p(z_k) - log r(z_k)) - log K] in expectation, half of the K draws from
    q and half from p. A weight is at most 2 p(x|z) however narrow q is, so mass that q misses is found if draws of the
    prior find it. Where q is good, half of its draws are lost and the result is slightly above that of q alone.

    Args:
        model: put in evaluation mode while it works, then back.
        batches: each sentence once, with its place in the corpus.
        samples: K, at least 2; of an odd number q has one more, and r is weighted accordingly.
        seed: of the draws; those of q are the first ones of `bounds.measure` with that seed if q is Gaussian.

    Returns:
        (N,) float64 nats, in the order of the corpus.

    Raises:
        ConfigError: for fewer than 2 samples.

    Source: Veach & Guibas, Optimally combining sampling techniques for Monte Carlo rendering, 1995 (the balance
    heuristic); Owen & Zhou, Safe and effective importance sampling, 2000 (deterministic mixtures).
    """
    if samples < 2:
        raise ConfigError(f"a mixture of two proposals needs at least 2 samples, got {samples}")
    far = samples // 2
    places, found = [], []
    with evaluating(model):
        p = model.prior()
        for index, batch in batches:
            for rows, part in slices(model, index, batch, DRAWS // (samples * max(1, model.latent))):
                keys, h = sentence_keys(part).cpu(), model.hidden(part)
                q = model.posterior(h)
                near = draw_posterior(model, h, q, keys, samples - far, seed)
                z = torch.cat([near, draw_prior(p, keys, far, seed)], dim=1)  # (B, S, D)
                weights, _ = weigh(model, part, q, p, z, share=1 - far / samples)
                places.append(rows)
                found.append(-weights.value().cpu())
    return torch.cat(found)[torch.cat(places).argsort()]


# Each sentence of a split once: their places in the corpus, and their batch.

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
