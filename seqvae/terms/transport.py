"""Optimal transport: how far z has to be moved, in squared distances."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from seqvae.errors import ConfigError, check_size
from seqvae.terms.discrepancy import fresh
from seqvae.terms.term import Term
from seqvae.vae import Trace


def sliced_distance(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """The squared 2-Wasserstein distance of two clouds of points along each unit vector, averaged over these.

    mean_l mean_i (sort(x theta_l)_i - sort(y theta_l)_i)^2, exact for one dimension.

    Args:
        x: (N, D).
        y: (N, D), as many.
        directions: (L, D) unit vectors.

    >>> sliced_distance(torch.tensor([[0.0], [5.0]]), torch.tensor([[6.0], [2.0]]), torch.ones(1, 1))
    tensor(2.5000)
    """
    x, y = ((points @ directions.T).sort(dim=0).values for points in (x, y))  # (N, L)
    return (x - y).square().mean()


class SlicedWasserstein(Term):
    """scale * SW^2(q_agg, p): the z of the batch against as many fresh draws of the prior, along random directions.

    As with `mmd` only all sentences together have to look like the prior, nothing keeps q(z|x) from shrinking to a
    point, every row holds the batch's value, and it is a squared distance, not nats. A shift of all z by m costs
    scale * ||m||^2 / D. Two samples of the same distribution are a little apart too, the less the larger the batch.

    Args:
        directions: L, how many are drawn for each batch, evenly from the sphere.
        scale: what the squared distance is multiplied with, to be felt beside the nats of the reconstruction.

    Source: Kolouri et al., Sliced-Wasserstein Autoencoder: An Embarrassingly Simple Generative Model, 2018,
    https://arxiv.org/abs/1804.01947.
    """

    def __init__(self, *, directions: int = 50, scale: float = 10.0) -> None:
        super().__init__()
        check_size(directions=directions)
        if not 0 < scale < float("inf"):
            raise ConfigError(f"divergence option scale = {scale}: expected a number above 0")
        self.directions, self.scale = directions, scale

    def forward(self, trace: Trace) -> Tensor:
        """(B,) squared distances, every row the batch's value."""
        sentences, dimensions = trace.z.shape
        directions = torch.randn(self.directions, dimensions, dtype=trace.z.dtype, device=trace.z.device)
        directions = torch.nn.functional.normalize(directions, dim=1)
        return (self.scale * sliced_distance(trace.z, fresh(trace.p, sentences), directions)).expand(sentences)


class Wasserstein(Term):
    """W^2(q(z|x), p) = ||m1 - m2||^2 + ||s1 - s2||^2 of two diagonal Gaussians, for each sentence by itself.

    A squared distance, not nats: beside the KL (of the same shift half as much) it has no -log s1, so that a small
    variance of q costs at most that of the prior, and a q of variance 0 is allowed.

    Source: Dowson & Landau, The Fréchet Distance between Multivariate Normal Distributions, 1982,
    https://doi.org/10.1016/0047-259X(82)90077-X.
    """

    def forward(self, trace: Trace) -> Tensor:
        """(B,) squared distances.

        Raises:
            ConfigError: if posterior or prior is no diagonal Gaussian.
        """
        for place, distribution, usual in (("posterior", trace.q, "gaussian"), ("prior", trace.p, "normal")):
            if not is_diagonal_gaussian(distribution):
                raise ConfigError(
                    f"objective.divergence = wasserstein needs diagonal Gaussians, and model.{place} gives another "
                    f"distribution: write --model.{place}.name {usual}, or --objective.divergence.name "
                    "sliced-wasserstein, which needs samples alone"
                )
        means, deviations = trace.q.mean - trace.p.mean, trace.q.stddev - trace.p.stddev
        return means.square().sum(1) + deviations.square().sum(1)


def is_diagonal_gaussian(distribution: Distribution) -> bool:
    """Whether it is a Gaussian (D,) without correlations."""
    return isinstance(distribution, Independent) and isinstance(distribution.base_dist, Normal)
