"""The uniform prior on the sphere."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.errors import ConfigError
from seqvae.priors.base import Prior
from seqvae.spherical import SphericalUniform


class Sphere(Prior):
    """p(z) = 1 / area of the unit sphere S^(D-1), for z of norm 1; it goes with the posterior `vmf`.

    Source: Davidson, Falorsi, De Cao, Kipf & Tomczak, Hyperspherical Variational Auto-Encoders, 2018,
    https://arxiv.org/abs/1804.00891; Xu & Durrett, Spherical Latent Spaces for Stable Variational Autoencoders, 2018,
    https://arxiv.org/abs/1808.10805.
    """

    spherical = True
    like: Tensor

    def __init__(self, *, latent: int) -> None:
        super().__init__()
        if latent < 2:
            raise ConfigError(f"prior sphere with model.latent = {latent}: expected 2 or more, a circle at least")
        self.register_buffer("like", torch.zeros(latent), persistent=False)

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        return SphericalUniform(self.like)
