"""A Gaussian whose means are held apart by batch normalization."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import batch_norm

from seqvae.errors import ConfigError
from seqvae.posteriors.base import Posterior
from seqvae.posteriors.gaussian import diagonal_gaussian

MOMENTUM = 0.1  # the share of the newest batch in the running statistics
EPS = 1e-8  # added to the variance of a batch; that of a fresh encoder is so small that 1e-5 let the KL vanish


class BatchNormGaussian(Posterior):
    """A diagonal Gaussian with mu = gamma (m - mean(m)) / std(m) + b, m and log sigma^2 linear in h.

    Mean and standard deviation of each dimension are those of the training batch, gamma is fixed and b is learnt. So
    each dimension of mu has the variance gamma^2 over the batch, and with a standard normal prior

        mean KL(q(z|x)||p) >= 1/2 sum_d (gamma^2 + b_d^2) >= D gamma^2 / 2,

    up to EPS = 1e-8, which is added to the variance of m: the KL cannot vanish, whatever its weight. What keeps the
    means apart need not be of use to the decoder: look at the mutual information too. A learnt prior can move its mean
    and scale to the means, and the bound does not hold for it.

    In evaluation, and for a batch of one sentence (however often it is repeated), running averages of the batches'
    means and variances take their place, so that a sentence has the same q in any batch; in training it depends on the
    others of its batch.

    Args:
        gamma: standard deviation of the posterior means over the sentences, in each dimension; more than 0.

    Source: Zhu, Bi, Liu, Ma, Li & Wu, A Batch Normalized Inference Network Keeps the KL Vanishing Away, 2020,
    https://arxiv.org/abs/2004.12585.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, *, features: int, latent: int, gamma: float = 0.6) -> None:
        super().__init__()
        if not 0 < gamma < float("inf"):
            raise ConfigError(f"posterior option gamma = {gamma}: expected a number above 0, such as 0.6")
        self.gamma = gamma
        self.means = nn.Linear(features, latent, bias=False)  # a bias would go with the mean of the batch
        self.log_variances = nn.Linear(features, latent)
        self.shift = nn.Parameter(torch.zeros(latent))
        self.register_buffer("running_mean", torch.zeros(latent))
        self.register_buffer("running_variance", torch.ones(latent))

    def forward(self, h: Tensor) -> Distribution:
        """In single precision at least, as with the `gaussian`; in training it updates the running statistics."""
        with torch.autocast(h.device.type, enabled=False):
            h = h.to(self.means.weight.dtype)
            m, log_variance = self.means(h), self.log_variances(h)
            if m.numel():  # a language model has no dimension to normalize
                several = self.training and bool((h != h[:1]).any())  # as often as one sentence is drawn from
                m = batch_norm(
                    m, self.running_mean, self.running_variance, training=several, momentum=MOMENTUM, eps=EPS
                )
        return diagonal_gaussian(self.gamma * m + self.shift, log_variance)
