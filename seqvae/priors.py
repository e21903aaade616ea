"""Priors: p(z)."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal


class Prior(nn.Module, ABC):
    """The distribution that sentences are generated from."""

    @abstractmethod
    def forward(self) -> Distribution:
        """A distribution with batch () and event (D,)."""


class StandardNormal(Prior):
    """p(z) = N(0, I)."""

    zero: Tensor
    one: Tensor

    def __init__(self, *, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)
        self.register_buffer("one", torch.ones(latent), persistent=False)

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        return Independent(Normal(self.zero, self.one, validate_args=False), 1, validate_args=False)


PRIORS: dict[str, type[Prior]] = {"normal": StandardNormal}
