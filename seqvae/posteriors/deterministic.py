"""A point as the posterior, but for a little noise."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from seqvae.errors import ConfigError
from seqvae.posteriors.base import Posterior


class NarrowGaussian(Posterior):
    """q(z|x) = N(mu(h), scale^2 I), mu linear in h and the scale fixed and tiny: the point of an autoencoder.

    Draws really come from it, so that its density, the KL and every bound are finite and valid: the bound is that of a
    model whose encoder is so exact. The KL then holds D (-log scale - 1/2) nats that no mean can save (of D = 32 and a
    scale of 0.01, 131), and it is large for that reason alone. It is made for divergences that look at draws or
    distances, as `mmd`, `sliced-wasserstein` and `wasserstein`; with `kl` only the means are pulled towards the prior.

    Args:
        scale: of q in every dimension, in units of the prior's; more than 0.

    Source: the deterministic encoder of Tolstikhin et al., Wasserstein Auto-Encoders, 2018,
    https://arxiv.org/abs/1711.01558, section 2; there without noise.
    """

    def __init__(self, *, features: int, latent: int, scale: float = 0.01) -> None:
        super().__init__()
        if not 1e-4 <= scale < float("inf"):  # below, log q(z) of a draw has no digit left in single precision
            raise ConfigError(f"posterior option scale = {scale}: expected 0.0001 or more, such as 0.01")
        self.scale = scale
        self.linear = nn.Linear(features, latent)

    def forward(self, h: Tensor) -> Distribution:
        """In single precision at least, as with the `gaussian`."""
        with torch.autocast(h.device.type, enabled=False):
            mu = self.linear(h.to(self.linear.weight.dtype))
        return Independent(Normal(mu, torch.full_like(mu, self.scale), validate_args=False), 1, validate_args=False)
