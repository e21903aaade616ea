"""Normalizing flows: an invertible map between z and noise, by zuko, which the extra `flows` installs."""

from contextlib import nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.types import _size

from seqvae.errors import ConfigError, check_size
from seqvae.rng import seeded

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
