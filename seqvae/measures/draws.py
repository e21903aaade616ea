"""Draws of z that are a function of the seed and of the sentence alone, whatever its place and its batch."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.batch import Batch
from seqvae.flows import FlowDistribution
from seqvae.measures.metrics import gaussian, keyed_normal, mix
from seqvae.rng import seeded
from seqvae.vae import SequenceVAE

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
