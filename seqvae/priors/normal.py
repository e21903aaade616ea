"""The standard normal prior."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from seqvae.priors.base import Prior


class StandardNormal(Prior):
    """p(z) = N(0, I).

    Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, appendix B.
    """

    zero: Tensor
    one: Tensor

    def __init__(self, *, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)
        self.register_buffer("one", torch.ones(latent), persistent=False)

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        return Independent(Normal(self.zero, self.one, validate_args=False), 1, validate_args=False)
