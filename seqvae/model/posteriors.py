"""Posteriors: the encoder's vector -> q(z|x)."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, Normal
from torch.distributions.kl import register_kl
from torch.nn.functional import batch_norm, normalize
from torch.types import _size

from seqvae.errors import ConfigError, check_size
from seqvae.model.distributions import VonMisesFisher


class Posterior(nn.Module, ABC):
    """A family of reparameterized distributions over z.

    Attributes:
        spherical: z lies on the unit sphere, where its densities live: the prior has to be spherical too.
    """

    spherical: bool = False

    @abstractmethod
    def forward(self, h: Tensor) -> Distribution:
        """(B, H) -> a distribution with batch (B,) and event (D,), whose `rsample` carries gradients."""


def bounded_scale(log_variance: Tensor) -> Tensor:
    """exp(log_variance / 2), never 0 or infinite.

    exp(+-15) is far beyond any useful variance; without the bounds one bad step makes the scale 0 or infinite.
    """
    return (log_variance.clamp(-15, 15) / 2).exp()


def diagonal_gaussian(mu: Tensor, log_variance: Tensor) -> Distribution:
    """N(mu, diag(exp(log_variance))), both (B, D): batch (B,), event (D,)."""
    return Independent(Normal(mu, bounded_scale(log_variance), validate_args=False), 1, validate_args=False)


class DiagonalGaussian(Posterior):
    """q(z|x) = N(mu(h), diag(sigma(h)^2)), mu and log sigma^2 linear in h.

    Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, equation 9.
    """

    def __init__(self, *, features: int, latent: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent)

    def forward(self, h: Tensor) -> Distribution:
        """In single precision at least, whatever the encoder computes in: the KL is a difference of squares."""
        with torch.autocast(h.device.type, enabled=False):
            mu, log_variance = self.linear(h.to(self.linear.weight.dtype)).chunk(2, dim=-1)
        return diagonal_gaussian(mu, log_variance)


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
        """In single precision at least, as with the `gaussian`; in training it steps the running statistics."""
        with torch.autocast(h.device.type, enabled=False):
            h = h.to(self.means.weight.dtype)
            m, log_variance = self.means(h), self.log_variances(h)
            if m.numel():  # a language model has no dimension to normalize
                several = self.training and bool((h != h[:1]).any())  # as often as one sentence is drawn from
                m = batch_norm(
                    m, self.running_mean, self.running_variance, training=several, momentum=MOMENTUM, eps=EPS
                )
        return diagonal_gaussian(self.gamma * m + self.shift, log_variance)


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


SHARPEST = 1e5  # above, single precision has too few digits for kappa mu.z


class VMF(Posterior):
    """q(z|x) = vMF(mu(h), kappa) on the unit sphere, mu the direction of a linear map of h and kappa fixed.

    With the prior `sphere`, the only one that it goes with but for `vamp`, the KL depends on kappa and D alone: it
    cannot collapse, costs the encoder nothing, and its weight changes only what is reported. The larger kappa, the more
    exact z is and the larger the KL: with D = 32 it is 4.2 nats at kappa = 20, 17.9 at 80 and 26.3 at 150.

    Args:
        kappa: concentration of every q(z|x); more than 0.

    Source: Xu & Durrett, Spherical Latent Spaces for Stable Variational Autoencoders, 2018,
    https://arxiv.org/abs/1808.10805 (fixed kappa); Davidson, Falorsi, De Cao, Kipf & Tomczak, Hyperspherical
    Variational Auto-Encoders, 2018, https://arxiv.org/abs/1804.00891 (where it is learnt).
    """

    spherical = True

    def __init__(self, *, features: int, latent: int, kappa: float = 80.0) -> None:
        super().__init__()
        if latent < 2:
            raise ConfigError(f"posterior vmf with model.latent = {latent}: expected 2 or more, a circle at least")
        if not 0 < kappa <= SHARPEST:
            raise ConfigError(f"posterior option kappa = {kappa}: expected more than 0 and at most {SHARPEST:g}")
        self.kappa = kappa
        self.linear = nn.Linear(features, latent)

    def forward(self, h: Tensor) -> Distribution:
        """In single precision at least, as with the `gaussian`."""
        with torch.autocast(h.device.type, enabled=False):
            m = self.linear(h.to(self.linear.weight.dtype))
            m = torch.where((m == 0).all(-1, keepdim=True), torch.ones_like(m), m)  # which has no direction of its own
            return VonMisesFisher(normalize(m, dim=-1), self.kappa)


POSTERIORS: dict[str, type[Posterior]] = {
    "gaussian": DiagonalGaussian,
    "batch-norm": BatchNormGaussian,
    "delta": DeltaGaussian,
    "deterministic": NarrowGaussian,
    "low-rank": LowRankGaussian,
    "vmf": VMF,
}
