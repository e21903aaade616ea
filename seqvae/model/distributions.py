"""KL(q || p) of any two distributions of z, and Gaussians beside those of torch: diagonal, mixed, of low rank."""

import math
from typing import cast

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    Normal,
    kl_divergence,
)
from torch.distributions.kl import register_kl
from torch.types import _size


def kl(q: Distribution, p: Distribution, z: Tensor | None = None) -> Tensor:
    """Return KL(q||p) = E_q[log q(z) - log p(z)], in closed form if there is one, else estimated from a sample `z`.

    Args:
        q: batch (B,), event (D,).
        p: batch () or (B,), event (D,).
        z: (B, D), a sample of q; needed only where there is no closed form.

    Returns:
        (B,) nats. The estimate from one sample is unbiased but may be negative.

    Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, appendix B.

    >>> q, p = (build_diagonal_gaussian(torch.full((1, 2), m), torch.ones(1, 2)) for m in (1.0, 0.0))
    >>> kl(q, p)
    tensor([1.])
    """
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        if z is None:
            raise
        return cast(Tensor, q.log_prob(z) - p.log_prob(z))


def kl_dimensions(q: Distribution, p: Distribution) -> Tensor:
    """Return KL(q||p) of each latent dimension, for q and p that factorize over dimensions.

    Returns:
        (B, D) nats; the sum over D is `kl(q, p)`.

    Raises:
        NotImplementedError: if q or p does not factorize over dimensions.
    """
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        raise NotImplementedError(f"{type(q).__name__} or {type(p).__name__} does not factorize over dimensions")
    return kl_divergence(q.base_dist, p.base_dist)


def build_diagonal_gaussian(mean: Tensor, scale: Tensor) -> Independent:
    """Return N(mean, diag(scale^2)), both (..., D): batch (...), event (D,). Arguments are not checked."""
    return Independent(Normal(mean, scale, validate_args=False), 1, validate_args=False)


def get_gaussian_parameters(q: Distribution) -> tuple[Tensor, Tensor] | None:
    """Return mean and standard deviation, each (..., D), if q is a diagonal Gaussian with event (D,); else None."""
    if isinstance(q, Independent) and q.reinterpreted_batch_ndims == 1 and isinstance(q.base_dist, Normal):
        return q.base_dist.loc, q.base_dist.scale
    return None


class GaussianMixture(MixtureSameFamily):
    """torch's mixture, whose log density of diagonal Gaussians takes two products of matrices in double precision.

    With w = 1 / sigma^2, -1/2 sum_d (z_d - mu_d)^2 w_d = -1/2 z^2 w + z (mu w) - 1/2 mu^2 w: N * K numbers are stored
    where torch stores N * K * D. The terms cancel where a component is narrow, hence the precision.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(z), nats, of z (..., D): (...)."""
        parameters = get_gaussian_parameters(self.component_distribution)
        if parameters is None or self.batch_shape:
            return cast(Tensor, super().log_prob(value))
        return self.joint_log_prob(value).logsumexp(-1).to(torch.result_type(value, parameters[0]))

    def joint_log_prob(self, value: Tensor) -> Tensor:
        """Return log w_k N(z; mu_k, sigma_k), (..., K) float64 nats, of z (..., D) and diagonal Gaussians (K, D)."""
        parameters = get_gaussian_parameters(self.component_distribution)
        assert parameters is not None
        mean, scale = (parameter.double() for parameter in parameters)  # (K, D)
        center = mean.detach().mean(0)  # what all share would cancel
        z, mean, precision = value.double() - center, mean - center, scale.square().reciprocal()
        linear = mean * precision
        constant = -0.5 * (mean * linear).sum(1) - scale.log().sum(1) - mean.shape[1] / 2 * math.log(2 * math.pi)
        terms = z.square() @ (-0.5 * precision).T + z @ linear.T + constant  # (..., K)
        return terms + self.mixture_distribution.logits.double()


def compute_scale(log_variance: Tensor) -> Tensor:
    """Return the standard deviation exp(log_variance / 2), never 0 or infinite.

    exp(+-15) is far beyond any useful variance; without these bounds one bad step makes the scale 0 or infinite.
    """
    return (log_variance.clamp(-15, 15) / 2).exp()


class FactorGaussian(LowRankMultivariateNormal):
    """torch's Gaussian of low rank, sampled and scored in the precision of its parameters under autocast too."""

    def rsample(self, sample_shape: _size = ()) -> Tensor:
        """Draw as torch does, but never in half precision."""
        with torch.autocast(self.loc.device.type, enabled=False):
            return super().rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute as torch does, but never in half precision."""
        with torch.autocast(self.loc.device.type, enabled=False):
            return super().log_prob(value)

    @property
    def log_determinant(self) -> Tensor:
        """log |diag(s^2) + U U'| = sum_d log s_d^2 + log |I + U' diag(s^-2) U|."""
        diagonal = self._capacitance_tril.diagonal(dim1=-2, dim2=-1)
        return self.cov_diag.log().sum(-1) + 2 * diagonal.log().sum(-1)


@register_kl(FactorGaussian, Independent)
def kl_factor_diagonal(q: FactorGaussian, p: Independent) -> Tensor:
    """Return KL(q||p) for p = N(m, diag(t^2)), nats, var the diagonal of Sigma:

    1/2 sum_d [var_d / t_d^2 + (mu_d - m_d)^2 / t_d^2 - 1 + log t_d^2] - 1/2 log |Sigma|

    Raises:
        NotImplementedError: if p is not a diagonal Gaussian.
    """
    if get_gaussian_parameters(p) is None:
        raise NotImplementedError(f"no closed form of the KL of {type(q).__name__} from {p}")
    precision = p.variance.reciprocal()
    terms = precision * (q.variance + (q.loc - p.mean).square()) - 1 - precision.log()
    return 0.5 * (terms.sum(-1) - q.log_determinant)
