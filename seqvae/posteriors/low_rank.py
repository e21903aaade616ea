"""A Gaussian with correlations along a few directions as the posterior."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, Normal
from torch.distributions.kl import register_kl
from torch.types import _size

from seqvae.errors import check_size
from seqvae.posteriors.base import Posterior
from seqvae.posteriors.gaussian import bounded_scale

STRONGEST = 10.0  # the most that a factor moves a dimension, in units of its own sigma


class LowRankGaussian(Posterior):
    """q(z|x) = N(mu, diag(sigma^2) + U U'), U (D, rank): a Gaussian with correlations between dimensions.

    mu, log sigma^2 and V are linear in h, and U = diag(sigma) V with every element of V cut at +-10 (which alone gives
    two dimensions a correlation of 0.99): as many as `rank` shared sources of noise move the dimensions together. The
    KL from a diagonal Gaussian prior has a closed form; from a mixture it is estimated from the draws.

    It does not factorize over dimensions, so of the free bits only the floor `total` goes with it, and it has neither
    a KL of each dimension nor an inference gap.

    Args:
        rank: columns of U; with as many as D any covariance can be had, up to the cut.

    Source: the family, with parameters of one q in place of an encoder, is that of Ong, Nott & Smith, Gaussian
    Variational Approximation with a Factor Covariance Structure, 2018, https://arxiv.org/abs/1701.03208; an encoder
    that gives a low-rank form (there of the precision) is in Rezende, Mohamed & Wierstra, Stochastic Backpropagation
    and Approximate Inference in Deep Generative Models, 2014, https://arxiv.org/abs/1401.4082, section 4.3.
    """

    def __init__(self, *, features: int, latent: int, rank: int = 2) -> None:
        super().__init__()
        check_size(rank=rank)
        self.rank = rank
        self.linear = nn.Linear(features, (2 + rank) * latent)

    def forward(self, h: Tensor) -> Distribution:
        """In single precision at least, whatever the encoder computes in: it is decomposed by Cholesky."""
        with torch.autocast(h.device.type, enabled=False):
            parts = self.linear(h.to(self.linear.weight.dtype)).unflatten(-1, (2 + self.rank, -1))  # (B, 2 + R, D)
            mu, log_variance, factors = parts.split([1, 1, self.rank], dim=-2)
            sigma = bounded_scale(log_variance)  # (B, 1, D)
            factors = (sigma * factors.clamp(-STRONGEST, STRONGEST)).mT  # (B, D, R)
            return FactorGaussian(mu.squeeze(-2), factors, sigma.squeeze(-2).square(), validate_args=False)


class FactorGaussian(LowRankMultivariateNormal):
    """torch's Gaussian of low rank, drawn from and scored in the precision of its parameters under autocast too."""

    def rsample(self, sample_shape: _size = ()) -> Tensor:
        """As torch's, its product of matrices not in half precision."""
        with torch.autocast(self.loc.device.type, enabled=False):
            return super().rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """As torch's, its products of matrices not in half precision."""
        with torch.autocast(self.loc.device.type, enabled=False):
            return super().log_prob(value)

    @property
    def log_determinant(self) -> Tensor:
        """log |diag(s^2) + U U'| = sum_d log s_d^2 + log |I + U' diag(s^-2) U|."""
        capacity = self._capacitance_tril.diagonal(dim1=-2, dim2=-1)
        return self.cov_diag.log().sum(-1) + 2 * capacity.log().sum(-1)


@register_kl(FactorGaussian, Independent)
def kl_factor_diagonal(q: FactorGaussian, p: Independent) -> Tensor:
    """KL(q||p) for p = N(m, diag(t^2)), nats: 1/2 sum_d [var_d / t_d^2 + (mu_d - m_d)^2 / t_d^2 - 1 + log t_d^2]
    - 1/2 log |Sigma|, var the diagonal of Sigma.

    Raises:
        NotImplementedError: if p is of another kind.
    """
    if not isinstance(p.base_dist, Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError(f"no closed form of the KL of {type(q).__name__} from {p}")
    precision = p.variance.reciprocal()
    terms = precision * (q.variance + (q.loc - p.mean).square()) - 1 - precision.log()
    return 0.5 * (terms.sum(-1) - q.log_determinant)
