"""A Gaussian too narrow for its KL to vanish."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from seqvae.errors import ConfigError
from seqvae.posteriors.base import Posterior

MOST = 7.0  # nats of a dimension, at a scale of 0.0006


def widest_scale(rate: float) -> float:
    """The largest scale s below 1 at which a Gaussian of one dimension costs `rate` nats at least, whatever its mean.

    KL(N(m, s^2)||N(0, 1)) = 1/2 (m^2 + s^2 - 1 - log s^2), so the s below 1 that solves 1/2 (s^2 - 1) - log s = rate,
    by bisection: the left side falls from more than the rate at log s = -rate - 1/2 to 0 at s = 1.

    >>> s = widest_scale(0.25)
    >>> round(s, 4), round(0.5 * (s**2 - 1) - math.log(s), 12)
    (0.5493, 0.25)
    """
    narrow, wide = -rate - 0.5, 0.0  # log s
    for _ in range(200):
        middle = (narrow + wide) / 2
        if 0.5 * math.expm1(2 * middle) - middle >= rate:
            narrow = middle
        else:
            wide = middle
    return math.exp(narrow)


class DeltaGaussian(Posterior):
    """q(z|x) = N(mu(h), diag(sigma(h)^2)) with every sigma so small that the KL is never below `rate` nats.

    sigma = high (low + (1 - low) sigmoid(a)), mu and a linear in h, and high < 1 the solution of

        1/2 (high^2 - 1 - log high^2) = rate / D,

    so that with a standard normal prior KL(q(z|x)||p(z)) >= rate nats even where mu = 0, whatever the weight of the KL.
    The floor can be met by the scale alone, without information in z: look at the mutual information too. A learnt
    prior can take on the scale of q, and the floor does not hold for it.

    Args:
        rate: the least KL, in nats per sentence summed over the dimensions; more than 0.
        low: the least sigma, as a share of the largest; more than 0 and less than 1.

    Source: Razavi, van den Oord, Poole & Vinyals, Preventing Posterior Collapse with delta-VAEs, 2019,
    https://arxiv.org/abs/1901.03416. Taken from it is the idea that no member of the family is nearer to the prior than
    the rate. Not followed: there z is a sequence, and the distance comes from an AR(1) prior over its steps against
    posteriors without such correlations; here there is one z with the prior N(0, I), and the scale alone is bounded.
    """

    def __init__(self, *, features: int, latent: int, rate: float = 5.0, low: float = 0.1) -> None:
        super().__init__()
        if not 0 < rate <= MOST * max(1, latent):  # a language model has no dimension that could take the nats
            raise ConfigError(
                f"posterior option rate = {rate}: expected more than 0 and at most {MOST * max(1, latent):g} nats, "
                f"{MOST:g} for each of the {latent} dimensions"
            )
        if not 0 < low < 1:
            raise ConfigError(f"posterior option low = {low}: expected more than 0 and less than 1, such as 0.1")
        self.low, self.high = low, widest_scale(rate / max(1, latent))
        self.linear = nn.Linear(features, 2 * latent)

    def forward(self, h: Tensor) -> Distribution:
        """In single precision at least, as with the `gaussian`."""
        with torch.autocast(h.device.type, enabled=False):
            mu, a = self.linear(h.to(self.linear.weight.dtype)).chunk(2, dim=-1)
        sigma = self.high * (self.low + (1 - self.low) * a.sigmoid())
        return Independent(Normal(mu, sigma, validate_args=False), 1, validate_args=False)
