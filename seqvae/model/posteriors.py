"""Posteriors: the encoder's features h (B, H) -> q(z|x)."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import batch_norm, normalize

from seqvae.errors import ConfigError, check_size
from seqvae.model.distributions import FactorGaussian, build_diagonal_gaussian, compute_scale
from seqvae.model.spheres import VonMisesFisher


class Posterior(nn.Module, ABC):
    """A family of reparameterized distributions over z.

    Attributes:
        spherical: z lies on the unit sphere, where its density is defined: the prior has to be spherical too.
    """

    spherical: bool = False

    @abstractmethod
    def forward(self, h: Tensor) -> Distribution:
        """Return q(z|x) for h (B, H): batch (B,), event (D,), with a differentiable `rsample`."""


class DiagonalGaussian(Posterior):
    """q(z|x) = N(mu(h), diag(sigma(h)^2)), mu and log sigma^2 linear in h.

    Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, equation 9.
    """

    def __init__(self, *, features: int, latent: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent)

    def forward(self, h: Tensor) -> Distribution:
        """Compute in single precision at least, whatever the encoder's, since the KL is a difference of squares."""
        with torch.autocast(h.device.type, enabled=False):
            mu, log_variance = self.linear(h.to(self.linear.weight.dtype)).chunk(2, dim=-1)
        return build_diagonal_gaussian(mu, compute_scale(log_variance))


MOMENTUM = 0.1  # weight of the newest batch in the running statistics
EPS = 1e-8  # added to the variance of a batch; that of an untrained encoder is so small that 1e-5 let the KL vanish


class BatchNormGaussian(Posterior):
    """A diagonal Gaussian with mu = gamma (m - mean(m)) / std(m) + b, m and log sigma^2 linear in h.

    Mean and standard deviation of each dimension are those of the training batch, gamma is fixed and b is learnt. So
    each dimension of mu has the variance gamma^2 over the batch, and with a standard normal prior

        mean KL(q(z|x)||p) >= 1/2 sum_d (gamma^2 + b_d^2) >= D gamma^2 / 2,

    up to EPS = 1e-8, which is added to the variance of m: the KL cannot vanish, whatever its weight. Means that differ
    need not be of use to the decoder: look at the mutual information too. The bound does not hold for a learnt prior,
    which can move its mean and scale to the means, nor where q is frozen and the encoder is trained.

    In evaluation, for a batch of one sentence (however often it is repeated), and where `frozen` is set, running
    averages of the batches' means and variances are used instead, so that a sentence has the same q in any batch; in
    training it depends on the others of its batch.

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
        self.gamma, self.frozen = gamma, False
        self.means = nn.Linear(features, latent, bias=False)  # a bias would be subtracted with the mean of the batch
        self.log_variances = nn.Linear(features, latent)
        self.shift = nn.Parameter(torch.zeros(latent))
        self.register_buffer("running_mean", torch.zeros(latent))
        self.register_buffer("running_variance", torch.ones(latent))

    def forward(self, h: Tensor) -> Distribution:
        """Compute in single precision at least, as for `gaussian`; while training, update the running statistics."""
        with torch.autocast(h.device.type, enabled=False):
            h = h.to(self.means.weight.dtype)
            m, log_variance = self.means(h), self.log_variances(h)
            if m.numel():  # a language model has no dimension to normalize
                batch = self.training and not self.frozen
                several = batch and bool((h != h[:1]).any())  # one sentence may be repeated, for many samples
                m = batch_norm(
                    m, self.running_mean, self.running_variance, training=several, momentum=MOMENTUM, eps=EPS
                )
        return build_diagonal_gaussian(self.gamma * m + self.shift, compute_scale(log_variance))


MAX_RATE = 7.0  # nats of one dimension, at a scale of 0.0006


def solve_scale(rate: float) -> float:
    """Return the largest scale s < 1 at which the KL of a one-dimensional Gaussian is at least `rate`, for any mean.

    KL(N(m, s^2)||N(0, 1)) = 1/2 (m^2 + s^2 - 1 - log s^2), so s solves 1/2 (s^2 - 1) - log s = rate. It is found by
    bisection: the left side falls from more than the rate at log s = -rate - 1/2 to 0 at s = 1.

    >>> s = solve_scale(0.25)
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
    The bound can be met by the scale alone, without information in z: look at the mutual information too. It does not
    hold for a learnt prior, which can take on the scale of q.

    Args:
        rate: the least KL, in nats per sentence, summed over the dimensions; more than 0.
        low: the least sigma, as a fraction of the largest; more than 0 and less than 1.

    Source: Razavi, van den Oord, Poole & Vinyals, Preventing Posterior Collapse with delta-VAEs, 2019,
    https://arxiv.org/abs/1901.03416. The idea taken from it is a family of which no member is closer to the prior than
    the rate. The difference: there z is a sequence, and the distance comes from an AR(1) prior over its steps against
    posteriors without such correlations; here there is one z with the prior N(0, I), and the scale alone is bounded.
    """

    def __init__(self, *, features: int, latent: int, rate: float = 5.0, low: float = 0.1) -> None:
        super().__init__()
        if not 0 < rate <= MAX_RATE * max(1, latent):  # a language model has 0 dimensions
            raise ConfigError(
                f"posterior option rate = {rate}: expected more than 0 and at most {MAX_RATE * max(1, latent):g} nats, "
                f"{MAX_RATE:g} for each of the {latent} dimensions"
            )
        if not 0 < low < 1:
            raise ConfigError(f"posterior option low = {low}: expected more than 0 and less than 1, such as 0.1")
        self.low, self.high = low, solve_scale(rate / max(1, latent))
        self.linear = nn.Linear(features, 2 * latent)

    def forward(self, h: Tensor) -> Distribution:
        """Compute in single precision at least, as for `gaussian`."""
        with torch.autocast(h.device.type, enabled=False):
            mu, a = self.linear(h.to(self.linear.weight.dtype)).chunk(2, dim=-1)
        sigma = self.high * (self.low + (1 - self.low) * a.sigmoid())
        return build_diagonal_gaussian(mu, sigma)


class NarrowGaussian(Posterior):
    """q(z|x) = N(mu(h), scale^2 I), mu linear in h and the scale fixed and tiny: nearly the point of an autoencoder.

    z is really sampled from it, so that its density, the KL and every bound are finite and valid. The KL contains
    D (-log scale - 1/2) nats that no mean can avoid (131 for D = 32 and a scale of 0.01), and is large for that reason
    alone. It is meant for divergences of samples or distances, such as `mmd`, `sliced-wasserstein` and `wasserstein`;
    with `kl` only the means are pulled towards the prior.

    Args:
        scale: standard deviation of q in every dimension, in units of the prior's; more than 0.

    Source: the deterministic encoder of Tolstikhin et al., Wasserstein Auto-Encoders, 2018,
    https://arxiv.org/abs/1711.01558, section 2, which has no noise.
    """

    def __init__(self, *, features: int, latent: int, scale: float = 0.01) -> None:
        super().__init__()
        if not 1e-4 <= scale < float("inf"):  # below, log q(z) of a sample has no digit left in single precision
            raise ConfigError(f"posterior option scale = {scale}: expected 0.0001 or more, such as 0.01")
        self.scale = scale
        self.linear = nn.Linear(features, latent)

    def forward(self, h: Tensor) -> Distribution:
        """Compute in single precision at least, as for `gaussian`."""
        with torch.autocast(h.device.type, enabled=False):
            mu = self.linear(h.to(self.linear.weight.dtype))
        return build_diagonal_gaussian(mu, torch.full_like(mu, self.scale))


MAX_LOADING = 10.0  # of a factor on a dimension, in units of that dimension's sigma


class LowRankGaussian(Posterior):
    """q(z|x) = N(mu, diag(sigma^2) + U U'), U (D, rank): a Gaussian with correlations between dimensions.

    mu, log sigma^2 and V are linear in h, and U = diag(sigma) V with every element of V clamped to +-10 (at which two
    dimensions have a correlation of 0.99): `rank` shared sources of noise move the dimensions together. The KL from a
    diagonal Gaussian prior has a closed form; from other priors it is estimated from the sample of z.

    It does not factorize over dimensions, so that it has neither a KL of each dimension nor an inference gap, and free
    bits can only be per `total`.

    Args:
        rank: number of columns of U; D of them give any covariance, up to the clamp.

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
        """Compute in single precision at least, whatever the encoder's, since a Cholesky decomposition follows."""
        with torch.autocast(h.device.type, enabled=False):
            parts = self.linear(h.to(self.linear.weight.dtype)).unflatten(-1, (2 + self.rank, -1))  # (B, 2 + R, D)
            mu, log_variance, factors = parts.split([1, 1, self.rank], dim=-2)
            sigma = compute_scale(log_variance)  # (B, 1, D)
            factors = (sigma * factors.clamp(-MAX_LOADING, MAX_LOADING)).mT  # (B, D, R)
            return FactorGaussian(mu.squeeze(-2), factors, sigma.squeeze(-2).square(), validate_args=False)


MAX_KAPPA = 1e5  # above, single precision has too few digits for kappa mu.z


class VMF(Posterior):
    """q(z|x) = vMF(mu(h), kappa) on the unit sphere, mu the direction of a linear map of h and kappa fixed.

    It needs the prior `sphere` or `vamp`. With `sphere` the KL depends on kappa and D alone: it cannot collapse, has no
    gradient, and its weight changes only what is reported. The larger kappa, the more precise z is and the larger the
    KL: with D = 32 it is 4.2 nats at kappa = 20, 17.9 at 80 and 26.3 at 150.

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
            raise ConfigError(f"posterior vmf with model.latent = {latent}: expected 2 or more (a circle)")
        if not 0 < kappa <= MAX_KAPPA:
            raise ConfigError(f"posterior option kappa = {kappa}: expected more than 0 and at most {MAX_KAPPA:g}")
        self.kappa = kappa
        self.linear = nn.Linear(features, latent)

    def forward(self, h: Tensor) -> Distribution:
        """Compute in single precision at least, as for `gaussian`."""
        with torch.autocast(h.device.type, enabled=False):
            m = self.linear(h.to(self.linear.weight.dtype))
            m = torch.where((m == 0).all(-1, keepdim=True), torch.ones_like(m), m)  # 0 has no direction
            return VonMisesFisher(normalize(m, dim=-1), self.kappa)


POSTERIORS: dict[str, type[Posterior]] = {
    "gaussian": DiagonalGaussian,
    "batch-norm": BatchNormGaussian,
    "delta": DeltaGaussian,
    "deterministic": NarrowGaussian,
    "low-rank": LowRankGaussian,
    "vmf": VMF,
}
