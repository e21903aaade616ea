"""Bounds of log p(x) for each sentence: the ELBO, and the importance-weighted one.

In fp32, or in the precision of `seqvae.model.modes.evaluating_in`, with noise and dropout off, weight 1 and the
unmodified KL. The noise of a sentence is a function of the seed and of the sentence, so that its scores depend neither
on its place in the corpus nor on its batch.
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
from seqvae.errors import ConfigError, CorpusError, TrainingError, check_whole
from seqvae.evaluation.metrics import LogMeanExp
from seqvae.model.distributions import get_gaussian_parameters, kl, kl_dimensions
from seqvae.model.flows import FlowDistribution
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE
from seqvae.rng import Stream, keyed_normal, mix

Indices = Sequence[int] | Tensor | np.ndarray
IndexedBatches = Iterable[tuple[Indices, Batch]]


@dataclass(frozen=True)
class Measurements:
    """A table of N sentences, in the order of the corpus.

    Attributes:
        index: (N,) int64, the place in the corpus.
        key: (N,) int64, the hash that its noise depends on (see `seqvae.evaluation.likelihood.hash_sentences`).
        tokens: (N,) int64, how many targets were scored.
        ended: (N,) bool, whether EOS was among them: not where the sentence was truncated.
        reconstruction: (N,) float64, -log p(x|z), nats, mean over the samples.
        kl: (N,) float64, nats.
        kl_dimensions: (N, D) float64, that of each latent dimension; None where it does not factorize.
        samples: (N,) int64, samples of z in one importance-weighted pass.
        passes: (N, R) float64, -log p(x) by importance weighting, nats, one column for each seed.
        effective: (N,) float64, the effective sample size of the first pass, from 1 to `samples`.
        first: (N,) float64, -log p(x|z) of the first sample.
        z: (N, D), the first sample.
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
    def join(cls, parts: Sequence["Measurements"]) -> "Measurements":
        """Join all parts, in the order of the corpus."""
        order = torch.cat([part.index for part in parts]).argsort()
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        joined: dict[str, Any] = {
            name: None if column[0] is None else torch.cat(column)[order] for name, column in columns.items()
        }
        return cls(**joined)


PRIOR_SEED = 0x9E3779B9  # added to the seed, so that samples of prior and posterior differ


def hash_sentences(batch: Batch) -> Tensor:
    """Hash each sentence, its targets in their order and its label; or each series, its numbers but not their unit.

    The same sentence has the same key in any batch and process and on any machine: the sum over its targets x_t of the
    hashes of (t, x_t), hashed with the label.

    Args:
        batch: B sentences or series; padding does not count.

    Returns:
        (B,) int64; two different sentences share one with a probability of 2^-64.

    >>> same = hash_sentences(Batch.of([[4, 2], [5, 4, 2], [4, 2]]))
    >>> bool(same[0] == same[2]), bool(same[0] == same[1])
    (True, False)
    """
    values = _bits(batch) if batch.real else batch.targets
    positions = torch.arange(values[0].numel(), device=values.device).view(values.shape[1:])
    hashes = mix(mix(positions) + values).view(*values.shape[:2], -1).sum(2)
    total = torch.where(batch.mask, hashes, 0).sum(1)
    return mix(total if batch.labels is None else total + mix(batch.labels + 1))


def _bits(batch: Batch) -> Tensor:
    """Return the bits of series, (B, T, 1 + F) int64, each channel scaled by a power of 2 to a largest value near 1.

    So a series has the same key in a unit that is a power of 2 times as large.
    """
    values = batch.targets.double()
    largest = torch.where(batch.mask[..., None], values.abs(), 0.0).amax(1, keepdim=True)
    unit = torch.where(largest > 0, largest / torch.frexp(largest).mantissa, 1.0)  # a power of 2: no digit is lost
    return (values / unit + 0.0).view(torch.int64)  # where -0.0 is 0.0


def draw_posterior(model: SequenceVAE, h: Tensor, q: Distribution, keys: Tensor, samples: int, seed: int) -> Tensor:
    """Sample q(z|x) for B sentences; for a Gaussian q the first samples do not depend on how many there are.

    Args:
        model: the model of q.
        h: (B, H), the encoder's vectors.
        q: batch (B,), event (D,): the posterior of `h`.
        keys: (B,) int64, the hashes of the sentences (see `hash_sentences`).
        samples: S.
        seed: any integer.

    Returns:
        (B, S, D).
    """
    return draw_keyed(q, lambda row: model.posterior(h[row : row + 1]).sample((samples,))[:, 0], keys, samples, seed)


def draw_prior(p: Distribution, keys: Tensor, samples: int, seed: int) -> Tensor:
    """Sample the prior, (B, S, D), S for each of B keys, other noise than the posterior's with that seed."""
    return draw_keyed(p, lambda _: p.sample((samples,)), keys, samples, seed + PRIOR_SEED)


def draw_keyed(
    distribution: Distribution, draw_row: Callable[[int], Tensor], keys: Tensor, samples: int, seed: int
) -> Tensor:
    """Sample from keyed noise where the distribution is Gaussian or a map of it, else row by row with a seed each.

    Args:
        distribution: batch (B,), or () for the same distribution in each row; event (D,).
        draw_row: row -> (S, D) samples of it, from the global generator.
        keys: (B,) int64.
        samples: S.
        seed: any integer.

    Returns:
        (B, S, D).
    """
    normal = get_gaussian_parameters(distribution)
    if normal is not None:
        mean, scale = (part.unsqueeze(-2) for part in normal)  # (B, 1, D), or (1, D) of a prior
        return mean + scale * keyed_normal(seed, keys, samples, mean.shape[-1]).to(mean)
    if isinstance(distribution, FlowDistribution):  # row by row takes minutes
        noise = keyed_normal(seed, keys, samples, distribution.event_shape[0])
        return distribution.transform_noise(noise.to(distribution.like.device))
    rows = []
    for row, key in enumerate(mix(keys + mix(torch.tensor(seed % 2**63))).tolist()):
        with Stream(key % 2**63):
            rows.append(draw_row(row))
    return torch.stack(rows)


def estimate_mixture_nll(model: SequenceVAE, batches: IndexedBatches, *, samples: int = 100, seed: int = 0) -> Tensor:
    """Estimate the NLL of each sentence by importance sampling from r(z) = (q(z|x) + p(z)) / 2.

    -log p(x) <= -[logsumexp_k(log p(x|z_k) + log p(z_k) - log r(z_k)) - log K] in expectation, half of the K samples
    from q and half from p (a defensive mixture). A weight is at most 2 p(x|z) however narrow q is, so mass that q
    misses is found if samples of the prior find it. Where q is good, half of its samples are lost and the result is
    slightly above that of q alone.

    Args:
        model: set to evaluation mode meanwhile.
        batches: each sentence once, with its index in the corpus.
        samples: K, at least 2; of an odd number q has one more, and r is weighted accordingly.
        seed: of the samples; those of q are the first ones of `measure` with that seed if q is Gaussian.

    Returns:
        (N,) float64 nats, in the order of the corpus.

    Raises:
        ConfigError: for fewer than 2 samples.

    Source: Veach & Guibas, Optimally combining sampling techniques for Monte Carlo rendering, 1995 (the balance
    heuristic); Owen & Zhou, Safe and effective importance sampling, 2000 (deterministic mixtures).
    """
    if samples < 2:
        raise ConfigError(f"a mixture of two proposals needs at least 2 samples, got {samples}")
    from_prior = samples // 2
    indices, found = [], []
    with evaluating(model):
        p = model.prior()
        for index, batch in batches:
            for rows, part in split_batch(model, index, batch, MAX_NOISE // (samples * max(1, model.latent))):
                keys, h = hash_sentences(part).cpu(), model.encode_features(part)
                q = model.posterior(h)
                z = torch.cat(
                    [
                        draw_posterior(model, h, q, keys, samples - from_prior, seed),
                        draw_prior(p, keys, from_prior, seed),
                    ],
                    dim=1,
                )  # (B, S, D)
                weights, _ = compute_importance_weights(model, part, q, p, z, q_fraction=1 - from_prior / samples)
                indices.append(rows)
                found.append(-weights.value().cpu())
    return torch.cat(found)[torch.cat(indices).argsort()]


MAX_TOKENS = 2048  # rows * T that one call of the decoder computes on a CPU
MAX_LOGITS = 2**28  # of such a call on a GPU: rows * T * the size of the vocabulary
GPU_FACTOR = 16  # times as many elsewhere, where a call of few rows leaves most of the device idle
MAX_NOISE = 4_000_000  # numbers (B * S * D) of latent noise held at once


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
        """Return the sums as (4,) float64 on the CPU, to be added over processes and read back by `Bound.of`."""
        return torch.tensor([self.sentences, self.tokens, self.reconstruction, self.kl], dtype=torch.float64)

    @classmethod
    def of(cls, sums: Tensor) -> "Bound":
        """Read back the sums that `tensor` returned."""
        sentences, tokens, reconstruction, divergence = sums.tolist()
        return cls(round(sentences), round(tokens), reconstruction, divergence)

    @property
    def nll(self) -> float:
        """-ELBO, nats per sentence.

        Raises:
            TrainingError: if it is not finite.
        """
        return self.weigh(1.0)

    def weigh(self, kl_weight: float) -> float:
        """Return reconstruction + kl_weight * KL, nats per sentence.

        Raises:
            TrainingError: if it is not finite.
        """
        kl_part = kl_weight * self.kl if kl_weight else 0.0  # 0 * inf would not be 0
        value = (self.reconstruction + kl_part) / max(self.sentences, 1)
        if not math.isfinite(value):
            raise TrainingError(
                f"the bound is not finite: reconstruction {self.reconstruction}, KL {self.kl} nats in all; "
                "the model has diverged or its weights are damaged"
            )
        return value


def validate(model: SequenceVAE, batches: IndexedBatches, *, seed: int = 0) -> Bound:
    """Compute the bound with one sample of z for each sentence, as validation does during training.

    The result may not be finite, so that no process leaves the others waiting: `Bound.nll` checks it after the sum.
    """
    total = Bound()
    with evaluating(model):
        for index, batch in batches:
            for part in _measure(model, index, batch, 1, [seed]):
                reconstruction, divergence = float(part.reconstruction.sum()), float(part.kl.sum())
                total += Bound(len(part.index), int(part.tokens.sum()), reconstruction, divergence)
    return total


def measure(
    model: SequenceVAE, batches: IndexedBatches, *, samples: int = 100, seed: int = 0, seeds: int = 1
) -> Measurements:
    """Compute the bound and the importance-weighted NLL of each sentence.

    -log p(x) <= -[logsumexp_k(log p(x|z_k) + log p(z_k) - log q(z_k|x)) - log K] in expectation, for K samples of
    q(z|x): Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, 2016, equation 8, arXiv:1509.00519.

    Args:
        model: set to evaluation mode meanwhile.
        batches: each sentence once, with its index in the corpus; iterated once.
        samples: K; with 1 the NLL is a one-sample -ELBO. Without a latent space all samples are equal: one is taken.
        seed: of the samples.
        seeds: number of importance-weighted passes, with seed, seed + 1, ...; all else is of the first.

    Raises:
        ConfigError: for fewer than 1 sample or seed, or more than 10^9.
        CorpusError: if there are no sentences.
        TrainingError: if a result is not finite.
    """
    check_whole(1, 10**9, samples=samples, seeds=seeds)
    samples, passes = samples if model.latent else 1, range(seed, seed + seeds)
    with evaluating(model):
        parts = [part for index, batch in batches for part in _measure(model, index, batch, samples, passes)]
    if not parts:
        raise CorpusError("there is no sentence to score")
    table = Measurements.join(parts)
    for name in ("reconstruction", "kl", "nll"):
        failed = (~getattr(table, name).isfinite()).nonzero()
        if len(failed):
            index, value = int(table.index[failed[0]]), float(getattr(table, name)[failed[0]])
            raise TrainingError(
                f"the {name} of sentence {index} is {value}: the model has diverged or its weights are damaged"
            )
    return table


def _measure(
    model: SequenceVAE, index: Indices, batch: Batch, samples: int, seeds: Sequence[int]
) -> Iterator[Measurements]:
    """Measure one batch in slices, so that neither the decoder nor the noise exceeds the memory."""
    p = model.prior()
    for indices, part in split_batch(model, index, batch, MAX_NOISE // (samples * max(1, model.latent))):
        keys, h = hash_sentences(part).cpu(), model.encode_features(part)
        q = model.posterior(h)
        z = draw_posterior(model, h, q, keys, samples, seeds[0])  # (B, S, D)
        weights, log_prob = compute_importance_weights(model, part, q, p, z)
        passes = [weights]
        for seed in seeds[1:]:
            other = draw_posterior(model, h, q, keys, samples, seed)
            passes.append(compute_importance_weights(model, part, q, p, other)[0])
        divergence = kl(q, p, z.transpose(0, 1))  # (B,), or (S, B) where it has to be estimated
        yield Measurements(
            index=indices,
            key=keys,
            tokens=part.lengths.cpu(),
            ended=part.ended.cpu(),
            reconstruction=-log_prob.mean(1).cpu(),
            kl=(divergence.mean(0) if divergence.dim() == 2 else divergence).double().cpu(),
            kl_dimensions=_kl_dimensions(q, p),
            samples=torch.full_like(indices, samples),
            passes=-torch.stack([one.value() for one in passes], dim=1).cpu(),
            effective=weights.effective_size().cpu(),
            first=-log_prob[:, 0].cpu(),
            z=z[:, 0].cpu(),
            mean=q.mean.cpu(),
        )


def _kl_dimensions(q: Distribution, p: Distribution) -> Tensor | None:
    try:
        return kl_dimensions(q, p).double().cpu()
    except NotImplementedError:
        return None


def compute_importance_weights(
    model: SequenceVAE, batch: Batch, q: Distribution, p: Distribution, z: Tensor, q_fraction: float = 1.0
) -> tuple[LogMeanExp, Tensor]:
    """Compute importance weights w = p(x|z) p(z) / r(z) of samples of r = q_fraction q(z|x) + (1 - q_fraction) p(z).

    Args:
        model: in evaluation mode.
        batch: B sentences on the device of the model.
        q: batch (B,), event (D,).
        p: batch () or (B,), event (D,).
        z: (B, S, D); the decoder takes `limit_tokens` of them at a time.
        q_fraction: fraction of samples from q, above 0.

    Returns:
        the mean of w and its effective size, and (B, S) float64 log p(x|z).
    """
    weights, log_probs = LogMeanExp(), []
    for chunk in z.split(max(1, limit_tokens(model) // batch.targets.numel()), dim=1):
        points = chunk.transpose(0, 1)  # (S, B, D)
        log_ratio = (q.log_prob(points) - p.log_prob(points)).double().T  # (B, S), log r - log p
        if q_fraction < 1:
            prior_term = torch.full_like(log_ratio, math.log(1 - q_fraction))
            log_ratio = torch.logaddexp(log_ratio + math.log(q_fraction), prior_term)
        log_prob = log_likelihood(model, batch.repeat(chunk.shape[1]), chunk.flatten(0, 1)).view(log_ratio.shape)
        weights.add(log_prob - log_ratio)
        log_probs.append(log_prob)
    return weights, torch.cat(log_probs, dim=1)


def log_likelihood(model: SequenceVAE, batch: Batch, z: Tensor) -> Tensor:
    """Return log p(x|z), (B,) float64, nats."""
    return model.log_prob(batch, z).double().sum(1)


def split_batch(model: SequenceVAE, index: Indices, batch: Batch, most: int) -> Iterator[tuple[Tensor, Batch]]:
    """Split a batch into slices of at most `most` rows and `limit_tokens` tokens, on the device of the model."""
    device = find_device(model)
    width = max(1, min(most, limit_tokens(model) // batch.targets.shape[1]))
    for indices, rows in zip(
        torch.as_tensor(index).long().split(width), torch.arange(len(batch)).split(width), strict=True
    ):
        yield indices, batch.select(rows).to(device)


def limit_tokens(model: SequenceVAE) -> int:
    """Return the most rows * T that one call of the decoder computes on the device of a model."""
    if find_device(model).type == "cpu":
        return MAX_TOKENS
    return max(MAX_TOKENS, min(GPU_FACTOR * MAX_TOKENS, MAX_LOGITS // model.observation.size))


def find_device(model: SequenceVAE) -> torch.device:
    """Return the device that the model computes on."""
    return next(model.parameters()).device
