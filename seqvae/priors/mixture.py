"""A mixture of Gaussians as the prior."""

import math

import torch
from torch import nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from seqvae.errors import ConfigError, check_size
from seqvae.priors.base import Prior


class Mixture(Prior):
    """p(z) = sum_k w_k N(m_k, diag(s_k^2)), weights, means and scales learnt with the model.

    It starts with equal weights, m_k ~ N(0, spread^2 I) and s_k^2 = 1 - spread^2: about mean 0 and variance 1 as a
    whole, but with components that differ, since equal ones get equal gradients and never part. KL(q||p) has no closed
    form and is estimated from the draws of z, without bias but with noise: that of one draw may be negative. The
    mixture does not factorize over dimensions, so of the free bits only the floor `total` goes with it.

    Args:
        components: K, how many Gaussians.
        spread: standard deviation of the initial means, more than 0 and less than 1.

    Source: the mixture-of-Gaussians baseline (there with equal weights, here learnt ones) of Tomczak & Welling, VAE
    with a VampPrior, 2018, https://arxiv.org/abs/1705.07120.
    """

    def __init__(self, *, latent: int, components: int = 10, spread: float = 0.5) -> None:
        super().__init__()
        check_size(components=components)
        if not 0 < spread < 1:
            raise ConfigError(f"prior option spread = {spread}: expected more than 0 and less than 1, such as 0.5")
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(spread * torch.randn(components, latent))
        self.log_variances = nn.Parameter(torch.full((components, latent), math.log1p(-(spread**2))))

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        s = (self.log_variances.clamp(-15, 15) / 2).exp()  # (K, D); the bounds are those of the posterior
        return MixtureSameFamily(
            Categorical(logits=self.logits, validate_args=False),
            Independent(Normal(self.means, s, validate_args=False), 1, validate_args=False),
            validate_args=False,
        )
