"""Draws of z that are a function of the seed and of the sentence's place alone, whatever batch it stands in."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.flows import FlowDistribution
from seqvae.measures.metrics import gaussian, keyed_normal
from seqvae.rng import seeded
from seqvae.vae import SequenceVAE

PRIOR = 0x9E3779B9  # sets the draws of the prior apart from those of the posterior with the same seed


def draw_posterior(model: SequenceVAE, h: Tensor, q: Distribution, index: Tensor, samples: int, seed: int) -> Tensor:
    """Draws of q(z|x) for B sentences; more draws begin with the fewer if q is Gaussian.

    Args:
        model: whose posterior it is.
        h: (B, H), the encoder's vectors.
        q: batch (B,), event (D,): the posterior of `h`.
        index: (B,) int64, the places of the sentences in the corpus.
        samples: S.
        seed: any integer.

    Returns:
        (B, S, D).
    """
    return _draw(q, lambda row: model.posterior(h[row : row + 1]).sample((samples,))[:, 0], index, samples, seed)


def draw_prior(p: Distribution, index: Tensor, samples: int, seed: int) -> Tensor:
    """(B, S, D) draws of the prior, S for each of B places (`index`), apart from the posterior's with that seed."""
    return _draw(p, lambda _: p.sample((samples,)), index, samples, seed + PRIOR)


def _draw(distribution: Distribution, alone: Callable[[int], Tensor], index: Tensor, samples: int, seed: int) -> Tensor:
    """From keyed noise where the distribution is Gaussian or a map of it, else row by row from a stream of its own."""
    normal = gaussian(distribution)
    if normal is not None:
        mean, scale = (part.unsqueeze(-2) for part in normal)  # (B, 1, D), or (1, D) of a prior
        return mean + scale * keyed_normal(seed, index, samples, mean.shape[-1]).to(mean)
    if isinstance(distribution, FlowDistribution):  # row by row its many passes would take minutes
        noise = keyed_normal(seed, index, samples, distribution.event_shape[0])
        return distribution.push(noise.to(distribution.like.device))
    rows = []
    for row, place in enumerate(index.tolist()):
        with seeded((seed * 1_000_003 + place) % 2**63):
            rows.append(alone(row))
    return torch.stack(rows)
