"""Distributions on the unit sphere: von Mises-Fisher and uniform.

The unit sphere S^(D-1) is the set of points z of D dimensions with |z| = 1. Densities on it are with respect to its
surface area, so that the uniform one is 1 / area; they are not defined off the sphere. Since q and p are then both of
this kind, differences of log densities mean what they mean elsewhere.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl
from torch.nn.functional import normalize
from torch.types import _size


def log_area(dimensions: int) -> float:
    """Return the log of the surface area of the unit sphere of D dimensions, 2 pi^(D/2) / Gamma(D/2).

    >>> round(math.exp(log_area(3)) / math.pi, 9)
    4.0
    """
    return math.log(2) + dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2)


def log_bessel(order: float, x: float) -> float:
    """Return log I_v(x), the modified Bessel function of the first kind, for v >= 0 and x > 0.

    By its power series I_v(x) = sum_m (x/2)^(2m + v) / (m! Gamma(m + v + 1)), summed in logarithms: all terms are
    positive, so that no digits cancel, and large x or v neither overflow nor underflow.

    Source: Watson, A Treatise on the Theory of Bessel Functions, 1922, section 3.7.

    >>> round(math.exp(log_bessel(0.5, 1.0)), 9) == round(math.sqrt(2 / math.pi) * math.sinh(1.0), 9)
    True
    """
    # The terms rise up to m (m + v) = (x/2)^2 and then fall as those of a Gaussian of about this width, or faster.
    peak = (math.hypot(order, x) - order) / 2
    count = math.ceil(peak + 12 * math.sqrt(x) + 60)
    m = torch.arange(count, dtype=torch.float64, device="cpu")  # values are needed even on meta
    terms = (2 * m + order) * math.log(x / 2) - torch.lgamma(m + 1) - torch.lgamma(m + order + 1)
    return float(terms.logsumexp(0))


@lru_cache
def compute_vmf_moments(dimensions: int, kappa: float) -> tuple[float, float, float]:
    """Return log C(kappa) of a von Mises-Fisher distribution, and mean A and variance of the cosine to mu.

    A = I_(D/2)(kappa) / I_(D/2 - 1)(kappa), and the variance is 1 - A^2 - (D - 1) A / kappa.
    """
    order = dimensions / 2 - 1
    log_i = log_bessel(order, kappa)
    mean = math.exp(log_bessel(order + 1, kappa) - log_i)
    log_c = order * math.log(kappa) - dimensions / 2 * math.log(2 * math.pi) - log_i
    return log_c, mean, max(0.0, 1 - mean**2 - (dimensions - 1) * mean / kappa)


class SphericalUniform(Distribution):
    """The uniform distribution on the unit sphere: batch (), event (D,), log density -`log_area(D)` everywhere.

    Args:
        like: (D,), a tensor whose type and device the samples have.
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, like: Tensor) -> None:
        self.like = like
        super().__init__(torch.Size(), like.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Vectors; that their norm is 1 is not checked."""
        return constraints.real_vector

    @property
    def mean(self) -> Tensor:
        """(D,) zeros: the center of the ball."""
        return torch.zeros_like(self.like)

    @property
    def variance(self) -> Tensor:
        """(D,) 1 / D each, since the squares of z sum to 1."""
        return torch.full_like(self.like, 1 / len(self.like))

    def rsample(self, sample_shape: _size = ()) -> Tensor:
        """Draw (..., D), the directions of Gaussian vectors."""
        shape = (*sample_shape, *self.event_shape)
        return normalize(torch.randn(shape, dtype=self.like.dtype, device=self.like.device), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return (...) nats for z (..., D) on the sphere."""
        return 0 * value.sum(-1) - log_area(len(self.like))  # with a gradient, of 0, to z


class VonMisesFisher(Distribution):
    """q(z) = C(kappa) exp(kappa mu.z) on the unit sphere, C(k) = k^(D/2 - 1) / ((2 pi)^(D/2) I_(D/2 - 1)(k)).

    Samples are w mu + sqrt(1 - w^2) v: the cosine w of the angle to mu by Wood's rejection sampling, v a direction
    orthogonal to mu, that of a Gaussian vector minus its component along mu. w does not depend on mu, so a sample
    carries a gradient to mu; kappa has none.

    Args:
        mu: (..., D) unit vectors, D at least 2.
        kappa: concentration, more than 0; towards 0 the uniform distribution.

    Source: Wood, Simulation of the von Mises Fisher distribution, 1994, https://doi.org/10.1080/03610919408813161; as a
    posterior Davidson, Falorsi, De Cao, Kipf & Tomczak, Hyperspherical Variational Auto-Encoders, 2018,
    https://arxiv.org/abs/1804.00891 (who map a sample around e1 to mu by a Householder reflection, whose gradient has
    no limit near mu = e1; the distribution is the same).
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, mu: Tensor, kappa: float) -> None:
        self.mu, self.kappa = mu, kappa
        super().__init__(mu.shape[:-1], mu.shape[-1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Vectors; that their norm is 1 is not checked."""
        return constraints.real_vector

    @property
    def mode(self) -> Tensor:
        """mu, the point of the sphere to decode."""
        return self.mu

    @property
    def mean(self) -> Tensor:
        """A mu, a point inside the sphere."""
        return self._moments[1] * self.mu

    @property
    def variance(self) -> Tensor:
        """(..., D): the variance of the cosine along mu, and E[1 - w^2] / (D - 1) = A / kappa across it."""
        along, across = self._moments[2], self._moments[1] / self.kappa
        return along * self.mu.square() + across * (1 - self.mu.square())

    @property
    def _moments(self) -> tuple[float, float, float]:
        return compute_vmf_moments(self.event_shape[0], self.kappa)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return (...) nats for z (..., D) on the sphere; kappa would magnify errors of half precision."""
        return self._moments[0] + self.kappa * (self.mu * value).sum(-1)

    def rsample(self, sample_shape: _size = ()) -> Tensor:
        """Draw (..., D), reparameterized in mu."""
        shape = torch.Size((*sample_shape, *self.mu.shape))
        gap = self._sample_gap(shape[:-1])[..., None]  # 1 - w, which keeps the digits of a narrow distribution
        noise = torch.randn(shape, dtype=self.mu.dtype, device=self.mu.device)
        across = normalize(noise - (noise * self.mu).sum(-1, keepdim=True) * self.mu, dim=-1)
        return self.mu - gap * self.mu + (gap * (2 - gap)).sqrt() * across

    def _sample_gap(self, shape: torch.Size) -> Tensor:
        """Draw 1 - w by rejection, in double precision: propose until each has been accepted once."""
        d, kappa = self.event_shape[0] - 1, self.kappa
        b = d / (2 * kappa + math.hypot(2 * kappa, d))
        x0 = (1 - b) / (1 + b)
        bound = kappa * x0 + d * math.log1p(-(x0**2))
        half = torch.full((), d / 2, dtype=torch.float64, device=self.mu.device)
        beta = torch.distributions.Beta(half, half, validate_args=False)
        gaps = torch.full(shape, torch.nan, dtype=torch.float64, device=self.mu.device)
        while (missing := gaps.isnan()).any():
            e = beta.sample(torch.Size([int(missing.sum())]))
            gap = 2 * b * e / (1 - (1 - b) * e)
            log_ratio = kappa * (1 - gap) + d * torch.log1p(-x0 * (1 - gap)) - bound
            accepted = log_ratio >= torch.rand_like(e).log()
            gaps[missing] = torch.where(accepted, gap, torch.nan)
        return gaps.to(self.mu.dtype)


@register_kl(VonMisesFisher, SphericalUniform)
def kl_from_uniform(q: VonMisesFisher, p: SphericalUniform) -> Tensor:
    """Return KL(q||p) = kappa A + log C(kappa) + log area, nats, the same for every mu.

    Source: Xu & Durrett, Spherical Latent Spaces for Stable Variational Autoencoders, 2018,
    https://arxiv.org/abs/1808.10805.
    """
    log_c, mean, _ = compute_vmf_moments(q.event_shape[0], q.kappa)
    return q.mu.new_full(q.batch_shape, q.kappa * mean + log_c + log_area(q.event_shape[0]))
