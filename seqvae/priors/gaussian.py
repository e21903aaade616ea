"""A Gaussian prior whose place and widths are learnt."""

import torch
from torch import nn
from torch.distributions import Distribution, Independent, Normal

from seqvae.priors.base import Prior


class LearntGaussian(Prior):
    """p(z) = N(m, diag(s^2)), m and log s^2 learnt with the model; it starts as N(0, I).

    The KL(q||p) fits it to the posteriors: at the optimum m and s^2 are mean and variance of q_agg, E_x[mu] and
    E_x[(mu - m)^2 + sigma^2]. The layers that write and read z can absorb m and s where they are linear, so it is a
    control for richer priors rather than one itself. The scale of z is then the model's choice: a threshold on its
    variance, as that of active units, no longer means the same for each dimension and model.

    Source: the prior with parameters p_theta(z) of Kingma & Welling, Auto-Encoding Variational Bayes, 2014,
    https://arxiv.org/abs/1312.6114, section 2.1, as a Gaussian.
    """

    def __init__(self, *, latent: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(latent))
        self.log_variance = nn.Parameter(torch.zeros(latent))

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        # The bounds are those of the posterior: far beyond any useful scale, they keep it from being 0 or infinite.
        s = (self.log_variance.clamp(-15, 15) / 2).exp()
        return Independent(Normal(self.mean, s, validate_args=False), 1, validate_args=False)
