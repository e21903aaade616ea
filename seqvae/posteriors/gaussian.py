"""A Gaussian without correlations as the posterior."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from seqvae.posteriors.base import Posterior


def bounded_scale(log_variance: Tensor) -> Tensor:
    """exp(log_variance / 2), never 0 or infinite.

    exp(+-15) is far beyond any useful variance; without the bounds one bad step makes the scale 0 or infinite.
    """
    return (log_variance.clamp(-15, 15) / 2).exp()


def diagonal_gaussian(mu: Tensor, log_variance: Tensor) -> Distribution:
    """N(mu, diag(exp(log_variance))), both (B, D): batch (B,), event (D,)."""
    return Independent(Normal(mu, bounded_scale(log_variance), validate_args=False), 1, validate_args=False)


class DiagonalGaussian(Posterior):
    """q(z|x) = N(mu(h), diag(sigma(h)^2)), mu and log sigma^2 linear in h.

    Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, equation 9.
    """

    def __init__(self, *, features: int, latent: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent)

    def forward(self, h: Tensor) -> Distribution:
        """In single precision at least, whatever the encoder computes in: the KL is a difference of squares."""
        with torch.autocast(h.device.type, enabled=False):
            mu, log_variance = self.linear(h.to(self.linear.weight.dtype)).chunk(2, dim=-1)
        return diagonal_gaussian(mu, log_variance)
