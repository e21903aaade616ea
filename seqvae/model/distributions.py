"""Distributions of z beside those of torch, from plain to special, and KL(q || p) of any two.

Diagonal Gaussians, Gaussians of low rank, von Mises-Fisher and uniform distributions on the sphere, normalizing flows.

The unit sphere S^(D-1) is the set of points z of D dimensions with |z| = 1. Densities on it are with respect to its
surface area, so that the uniform one is 1 / area; they are not defined off the sphere. Since q and p are then both of
this kind, differences of log densities mean what they mean elsewhere. Flows are those of zuko (the extra `flows`).
"""

import math
from contextlib import nullcontext
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    Normal,
    constraints,
    kl_divergence,
)
from torch.distributions.kl import register_kl
from torch.nn.functional import normalize
from torch.types import _size

from seqvae.errors import ConfigError, check_size
from seqvae.rng import Stream


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


# -- Gaussians --------------------------------------------------------------------------------------------------------


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
        mean, scale = (parameter.double() for parameter in parameters)  # (K, D)
        center = mean.detach().mean(0)  # what all share would cancel
        z, mean, precision = value.double() - center, mean - center, scale.square().reciprocal()
        linear = mean * precision
        constant = -0.5 * (mean * linear).sum(1) - scale.log().sum(1) - mean.shape[1] / 2 * math.log(2 * math.pi)
        terms = z.square() @ (-0.5 * precision).T + z @ linear.T + constant  # (..., K)
        total = (terms + self.mixture_distribution.logits.double()).logsumexp(-1)
        return total.to(torch.result_type(value, parameters[0]))


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


# -- the unit sphere --------------------------------------------------------------------------------------------------


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


# -- normalizing flows ------------------------------------------------------------------------------------------------

MAX_UNITS, MAX_TRANSFORMS = 2**12, 64
MAX_WEIGHTS = 2**27  # half a gigabyte, since they are built in memory before a damaged file is detected
Family = Literal["maf", "nsf"]


def build_flow(dimensions: int, *, family: Family = "maf", transforms: int = 3, hidden: int = 64) -> nn.Module:
    """Build an autoregressive flow that starts as the identity, so that its density starts as N(0, I).

    Args:
        dimensions: D.
        family: `maf`, which scales and shifts each dimension given those before it; or `nsf`, which maps it by a
            monotonic rational-quadratic spline of 8 pieces within +-5 and is the identity outside.
        transforms: number of transforms in sequence, each in the reverse order of the dimensions.
        hidden: units of each of the two layers of a transform's network.

    Returns:
        a module whose `forward()` is a distribution of zuko: batch (), event (D,).

    Raises:
        ConfigError: if zuko is not installed, or for a size out of range.

    Source: Papamakarios, Pavlakou & Murray, Masked Autoregressive Flow for Density Estimation, 2017,
    https://arxiv.org/abs/1705.07057; Durkan, Bekasov, Murray & Papamakarios, Neural Spline Flows, 2019,
    https://arxiv.org/abs/1906.04032.
    """
    check_size(MAX_UNITS, dimensions=dimensions, hidden=hidden)
    check_size(MAX_TRANSFORMS, transforms=transforms)
    outputs = {"maf": 2, "nsf": 23}[family] * dimensions
    if (weights := transforms * hidden * (dimensions + hidden + outputs)) > MAX_WEIGHTS:
        raise ConfigError(f"a flow of {weights:,} weights: expected at most {MAX_WEIGHTS:,}; write fewer hidden units")
    flows = import_zuko()
    cls = {"maf": flows.MAF, "nsf": flows.NSF}[family]
    options: dict[str, Any] = {}
    if dimensions > 1:  # a single dimension depends on no other, and needs no network
        # Tanh keeps densities smooth, and scales and shifts bounded whatever the weights.
        options = {"hidden_features": (hidden, hidden), "activation": nn.Tanh}
    device = torch.empty(0).device  # zuko reads the values of its masks, and meta tensors have none
    with Stream(0) if device.type == "meta" else nullcontext(), torch.device("cpu"):
        flow: nn.Module = cls(dimensions, transforms=transforms, **options)
    flow.to(device)
    for transform in flow.transform.transforms:  # type: ignore[union-attr]
        for parameter in transform.hyper[-1].parameters() if dimensions > 1 else transform.phi:
            nn.init.zeros_(parameter)
    return flow


def import_zuko() -> ModuleType:
    """Import `zuko.flows`, and keep the argument checks of torch's distributions.

    The import turns these checks off for the whole process; they are turned on again for all distributions but zuko's
    own, which rely on it.

    Raises:
        ConfigError: if zuko is not installed.
    """
    before = {name: Distribution.__dict__[name] for name in ("_validate_args", "arg_constraints")}
    try:
        flows, own = import_module("zuko.flows"), import_module("zuko.distributions")
    except ImportError:
        raise ConfigError("a flow needs zuko, which is not installed: pip install 'seqvae[flows]'") from None
    finally:
        for name, value in before.items():
            setattr(Distribution, name, value)
    for cls in vars(own).values():
        if isinstance(cls, type) and issubclass(cls, Distribution) and cls.__module__ == own.__name__:
            setattr(cls, "_validate_args", False)  # noqa: B010
            if "arg_constraints" not in vars(cls):
                setattr(cls, "arg_constraints", {})  # noqa: B010
    return flows


class FlowDistribution(Distribution):
    """z = m + L f^-1(noise), f the map of a flow: sampled and scored in its parameters' precision under autocast too.

    log p(z) = log N(f(y); 0, I) + log |det df/dy| - log det L, y = L^-1 (z - m). A density takes one pass of the
    networks, a sample of an autoregressive flow D of them.

    Args:
        flow: of `build_flow`.
        mean: m (D,); None for 0.
        scale_tril: L (D, D), lower triangular; None for I.
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, flow: nn.Module, mean: Tensor | None = None, scale_tril: Tensor | None = None) -> None:
        self.flow, self.like = flow(), next(flow.parameters())
        for base in (self.flow.base, self.flow.base.base_dist):  # values that are not finite are reported by the caller
            base._validate_args = False
        self.shift, self.scale_tril = mean, scale_tril
        super().__init__(torch.Size(), self.flow.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All vectors."""
        return constraints.real_vector

    def rsample(self, sample_shape: _size = ()) -> Tensor:
        """Draw (..., D)."""
        shape = torch.Size((*sample_shape, *self.event_shape))
        return self.transform_noise(torch.randn(shape, dtype=self.like.dtype, device=self.like.device))

    def transform_noise(self, noise: Tensor) -> Tensor:
        """Map standard Gaussian noise (..., D) to samples (..., D)."""
        with self._full_precision():
            y = self.flow.transform.inv(noise.to(self.like))
            y = y if self.scale_tril is None else y @ self.scale_tril.T
            return y if self.shift is None else y + self.shift

    def log_prob(self, value: Tensor) -> Tensor:
        """Return (...) nats for z (..., D)."""
        with self._full_precision():
            y = value if self.shift is None else value - self.shift
            if self.scale_tril is None:
                return self.flow.log_prob(y)
            y = torch.linalg.solve_triangular(self.scale_tril.T, y, upper=True, left=False)
            return self.flow.log_prob(y) - self.scale_tril.diagonal().log().sum()

    def _full_precision(self) -> torch.autocast:
        return torch.autocast(self.like.device.type, enabled=False)
