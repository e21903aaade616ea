"""Distributions of z beside those of torch: vMF and uniform on the sphere, a normalizing flow; and KL(q || p).

The unit sphere S^(D-1) are the points z of D dimensions with |z| = 1. Densities are those with respect to its surface,
so that the uniform one is 1 over its area: of points beside the sphere they say nothing. As p and q are both of this
kind, differences of log densities mean what they mean elsewhere. Flows are zuko's, which the extra `flows` installs.
"""

import math
from contextlib import nullcontext
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints, kl_divergence
from torch.distributions.kl import register_kl
from torch.nn.functional import normalize
from torch.types import _size

from seqvae.errors import ConfigError, check_size
from seqvae.rng import seeded


def log_area(dimensions: int) -> float:
    """log of the surface of the unit sphere of D dimensions, 2 pi^(D/2) / Gamma(D/2).

    >>> round(math.exp(log_area(3)) / math.pi, 9)
    4.0
    """
    return math.log(2) + dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2)


def log_bessel(order: float, x: float) -> float:
    """log I_v(x), the modified Bessel function of the first kind, for v >= 0 and x > 0.

    By its power series I_v(x) = sum_m (x/2)^(2m + v) / (m! Gamma(m + v + 1)), summed in logarithms: all terms are
    positive, so that no digits cancel, and a large x or v neither overflows nor underflows.

    Source: Watson, A Treatise on the Theory of Bessel Functions, 1922, section 3.7.

    >>> round(math.exp(log_bessel(0.5, 1.0)), 9) == round(math.sqrt(2 / math.pi) * math.sinh(1.0), 9)
    True
    """
    # The terms rise up to m (m + v) = (x/2)^2 and then fall as those of a Gaussian of about this width, or faster.
    peak = (math.hypot(order, x) - order) / 2
    count = math.ceil(peak + 12 * math.sqrt(x) + 60)
    m = torch.arange(count, dtype=torch.float64, device="cpu")  # values are read, also where a model is built on meta
    terms = (2 * m + order) * math.log(x / 2) - torch.lgamma(m + 1) - torch.lgamma(m + order + 1)
    return float(terms.logsumexp(0))


@lru_cache
def facts(dimensions: int, kappa: float) -> tuple[float, float, float]:
    """Of a von Mises-Fisher distribution: log C(kappa), the mean A and the variance of the cosine to mu.

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
        like: (D,), a tensor whose type and device the draws have.
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, like: Tensor) -> None:
        self.like = like
        super().__init__(torch.Size(), like.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Vectors; that their norm is 1 goes unchecked."""
        return constraints.real_vector

    @property
    def mean(self) -> Tensor:
        """(D,) zeros: the middle of the ball."""
        return torch.zeros_like(self.like)

    @property
    def variance(self) -> Tensor:
        """(D,) 1 / D each: their sum is that of the squares of z, 1."""
        return torch.full_like(self.like, 1 / len(self.like))

    def rsample(self, sample_shape: _size = ()) -> Tensor:
        """(..., D) directions of Gaussian vectors."""
        shape = (*sample_shape, *self.event_shape)
        return normalize(torch.randn(shape, dtype=self.like.dtype, device=self.like.device), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """(...) nats for z (..., D) on the sphere."""
        return 0 * value.sum(-1) - log_area(len(self.like))  # with a gradient, of 0, to z


class VonMisesFisher(Distribution):
    """q(z) = C(kappa) exp(kappa mu.z) on the unit sphere, C(k) = k^(D/2 - 1) / ((2 pi)^(D/2) I_(D/2 - 1)(k)).

    Draws are w mu + sqrt(1 - w^2) v: the cosine w of the angle to mu by Wood's rejection, v a direction at right angles
    to mu, that of a Gaussian vector less its part along mu. w does not depend on mu, so a draw carries the gradient to
    mu; kappa has none.

    Args:
        mu: (..., D) unit vectors, D at least 2.
        kappa: concentration, more than 0; towards 0 the uniform distribution.

    Source: Wood, Simulation of the von Mises Fisher distribution, 1994, https://doi.org/10.1080/03610919408813161; as a
    posterior Davidson, Falorsi, De Cao, Kipf & Tomczak, Hyperspherical Variational Auto-Encoders, 2018,
    https://arxiv.org/abs/1804.00891 (who turn a draw around e1 to mu by a Householder reflection, whose gradient has no
    limit near mu = e1; the distribution is the same).
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, mu: Tensor, kappa: float) -> None:
        self.mu, self.kappa = mu, kappa
        super().__init__(mu.shape[:-1], mu.shape[-1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Vectors; that their norm is 1 goes unchecked."""
        return constraints.real_vector

    @property
    def mode(self) -> Tensor:
        """mu, the point of the sphere to decode."""
        return self.mu

    @property
    def mean(self) -> Tensor:
        """A mu, a point inside the sphere."""
        return self._facts[1] * self.mu

    @property
    def variance(self) -> Tensor:
        """Of each dimension: that of the cosine along mu, and E[1 - w^2] / (D - 1) = A / kappa across it."""
        along, across = self._facts[2], self._facts[1] / self.kappa
        return along * self.mu.square() + across * (1 - self.mu.square())

    @property
    def _facts(self) -> tuple[float, float, float]:
        return facts(self.event_shape[0], self.kappa)

    def log_prob(self, value: Tensor) -> Tensor:
        """(...) nats for z (..., D) on the sphere; not in half precision, which kappa would magnify."""
        return self._facts[0] + self.kappa * (self.mu * value).sum(-1)

    def rsample(self, sample_shape: _size = ()) -> Tensor:
        """(..., D), reparameterized in mu."""
        shape = torch.Size((*sample_shape, *self.mu.shape))
        below = self._below(shape[:-1])[..., None]  # 1 - w, in whose digits a narrow distribution lies
        noise = torch.randn(shape, dtype=self.mu.dtype, device=self.mu.device)
        across = normalize(noise - (noise * self.mu).sum(-1, keepdim=True) * self.mu, dim=-1)
        return self.mu - below * self.mu + (below * (2 - below)).sqrt() * across

    def _below(self, shape: torch.Size) -> Tensor:
        """1 - w by rejection, in double precision: proposals are kept until each has been accepted once."""
        d, kappa = self.event_shape[0] - 1, self.kappa
        b = d / (2 * kappa + math.hypot(2 * kappa, d))
        x0 = (1 - b) / (1 + b)
        least = kappa * x0 + d * math.log1p(-(x0**2))
        half = torch.full((), d / 2, dtype=torch.float64, device=self.mu.device)
        beta = torch.distributions.Beta(half, half, validate_args=False)
        found = torch.full(shape, torch.nan, dtype=torch.float64, device=self.mu.device)
        while (missing := found.isnan()).any():
            e = beta.sample(torch.Size([int(missing.sum())]))
            below = 2 * b * e / (1 - (1 - b) * e)
            log_ratio = kappa * (1 - below) + d * torch.log1p(-x0 * (1 - below)) - least
            accepted = log_ratio >= torch.rand_like(e).log()
            found[missing] = torch.where(accepted, below, torch.nan)
        return found.to(self.mu.dtype)


@register_kl(VonMisesFisher, SphericalUniform)
def kl_of_uniform(q: VonMisesFisher, p: SphericalUniform) -> Tensor:
    """KL(q||p) = kappa A + log C(kappa) + log area, nats: the same for every mu.

    Source: Xu & Durrett, Spherical Latent Spaces for Stable Variational Autoencoders, 2018,
    https://arxiv.org/abs/1808.10805.
    """
    log_c, mean, _ = facts(q.event_shape[0], q.kappa)
    return q.mu.new_full(q.batch_shape, q.kappa * mean + log_c + log_area(q.event_shape[0]))


WIDEST, LONGEST = 2**12, 64
HEAVIEST = 2**27  # weights: half a gigabyte, as they are built in memory before a damaged file is found out
Family = Literal["maf", "nsf"]


def build_flow(dimensions: int, *, family: Family = "maf", transforms: int = 3, hidden: int = 64) -> nn.Module:
    """An autoregressive flow that starts as the identity, so that its density starts as N(0, I).

    Args:
        dimensions: D.
        family: `maf`, scale and shift of each dimension given those before it; or `nsf`, which bends it by a monotonic
            rational-quadratic spline of 8 pieces within +-5 and is the identity outside.
        transforms: how many, one after the other, each in the reverse order of the dimensions.
        hidden: units of each of the two layers of the network inside each.

    Returns:
        a module whose `forward()` is a distribution of zuko: batch (), event (D,).

    Raises:
        ConfigError: if zuko is not installed, or for a size that cannot be.

    Source: Papamakarios, Pavlakou & Murray, Masked Autoregressive Flow for Density Estimation, 2017,
    https://arxiv.org/abs/1705.07057; Durkan, Bekasov, Murray & Papamakarios, Neural Spline Flows, 2019,
    https://arxiv.org/abs/1906.04032.
    """
    check_size(WIDEST, dimensions=dimensions, hidden=hidden)
    check_size(LONGEST, transforms=transforms)
    outputs = {"maf": 2, "nsf": 23}[family] * dimensions
    if (weights := transforms * hidden * (dimensions + hidden + outputs)) > HEAVIEST:
        raise ConfigError(f"a flow of {weights:,} weights: expected at most {HEAVIEST:,}; write fewer hidden units")
    flows = import_zuko()
    cls = {"maf": flows.MAF, "nsf": flows.NSF}[family]
    options: dict[str, Any] = {}
    if dimensions > 1:  # one dimension has none before it, and no network
        # Tanh, so that densities are smooth, and that no weights drive a scale or a shift beyond all bounds.
        options = {"hidden_features": (hidden, hidden), "activation": nn.Tanh}
    device = torch.empty(0).device  # zuko looks at the values of its masks, and meta tensors have none
    with seeded(0) if device.type == "meta" else nullcontext(), torch.device("cpu"):
        flow: nn.Module = cls(dimensions, transforms=transforms, **options)
    flow.to(device)
    for transform in flow.transform.transforms:  # type: ignore[union-attr]
        last = transform.hyper[-1].parameters() if dimensions > 1 else transform.phi
        for parameter in last:
            nn.init.zeros_(parameter)
    return flow


def import_zuko() -> ModuleType:
    """Import `zuko.flows`, and leave the rest of torch's distributions as they were.

    Its import turns off, for the whole process, the checks that torch's distributions make of arguments and values:
    they are turned on again for all but its own, which rely on that.

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
    """z = m + L f^-1(noise), f the map of a flow: drawn and scored in the precision of its parameters under autocast.

    log p(z) = log N(f(y); 0, I) + log |det df/dy| - log det L, y = L^-1 (z - m). Scores take one pass of the networks,
    draws of an autoregressive flow D of them.

    Args:
        flow: of `build_flow`.
        mean: m (D,); None for 0.
        scale_tril: L (D, D), lower triangular; None for I.
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, flow: nn.Module, mean: Tensor | None = None, scale_tril: Tensor | None = None) -> None:
        self.flow, self.like = flow(), next(flow.parameters())
        for base in (self.flow.base, self.flow.base.base_dist):  # a value that is not finite is the caller's to report
            base._validate_args = False
        self.place, self.scale_tril = mean, scale_tril
        super().__init__(torch.Size(), self.flow.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All vectors."""
        return constraints.real_vector

    def rsample(self, sample_shape: _size = ()) -> Tensor:
        """(..., D)."""
        shape = torch.Size((*sample_shape, *self.event_shape))
        return self.push(torch.randn(shape, dtype=self.like.dtype, device=self.like.device))

    def push(self, noise: Tensor) -> Tensor:
        """The draws (..., D) that standard Gaussian numbers (..., D) become."""
        with self._exact():
            y = self.flow.transform.inv(noise.to(self.like))
            y = y if self.scale_tril is None else y @ self.scale_tril.T
            return y if self.place is None else y + self.place

    def log_prob(self, value: Tensor) -> Tensor:
        """(...) nats for z (..., D)."""
        with self._exact():
            y = value if self.place is None else value - self.place
            if self.scale_tril is None:
                return self.flow.log_prob(y)
            y = torch.linalg.solve_triangular(self.scale_tril.T, y, upper=True, left=False)
            return self.flow.log_prob(y) - self.scale_tril.diagonal().log().sum()

    def _exact(self) -> torch.autocast:
        return torch.autocast(self.like.device.type, enabled=False)


def kl(q: Distribution, p: Distribution, z: Tensor | None = None) -> Tensor:
    """KL(q||p) = E_q[log q(z) - log p(z)], in closed form if torch has one, else from the draw `z`.

    Args:
        q: batch (B,), event (D,).
        p: batch () or (B,), event (D,).
        z: (B, D), a draw of q; needed only where there is no closed form.

    Returns:
        (B,) nats. The estimate from one draw is unbiased but may be negative.

    Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, appendix B.

    >>> import torch
    >>> from torch.distributions import Normal
    >>> q, p = (Independent(Normal(torch.full((1, 2), m), torch.ones(1, 2)), 1) for m in (1.0, 0.0))
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
    """KL(q||p) of each latent dimension by itself, for q and p that are independent over dimensions.

    Returns:
        (B, D) nats; the sum over D is `kl(q, p)`.

    Raises:
        NotImplementedError: if q or p does not factorize over dimensions.
    """
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        raise NotImplementedError(f"{type(q).__name__} or {type(p).__name__} does not factorize over dimensions")
    return kl_divergence(q.base_dist, p.base_dist)


def gaussian(q: Distribution) -> tuple[Tensor, Tensor] | None:
    """Location and scale, each (N, D), if q is a batch of diagonal Gaussians over vectors; else None."""
    if isinstance(q, Independent) and q.reinterpreted_batch_ndims == 1 and isinstance(q.base_dist, Normal):
        return q.base_dist.loc, q.base_dist.scale
    return None
