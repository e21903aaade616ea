"""Normalizing flows as distributions of z: those of zuko (the extra `flows`)."""

from contextlib import nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.types import _size

from seqvae.errors import ConfigError, check_size
from seqvae.rng import Stream

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
