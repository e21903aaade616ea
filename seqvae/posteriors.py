"""Posteriors: the encoder's vector -> q(z|x)."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal


class Posterior(nn.Module, ABC):
    """A family of reparameterized distributions over z."""

    @abstractmethod
    def forward(self, h: Tensor) -> Distribution:
        """(B, H) -> a distribution with batch (B,) and event (D,), whose `rsample` carries gradients."""


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
        # exp(+-15) is far beyond any useful scale; without the bounds one bad step makes the scale 0 or infinite.
        sigma = (log_variance.clamp(-15, 15) / 2).exp()
        return Independent(Normal(mu, sigma, validate_args=False), 1, validate_args=False)


POSTERIORS: dict[str, type[Posterior]] = {"gaussian": DiagonalGaussian}
