"""The contract of priors: () -> p(z)."""

from abc import ABC, abstractmethod

from torch import nn
from torch.distributions import Distribution


class Prior(nn.Module, ABC):
    """The distribution that sentences are generated from."""

    @abstractmethod
    def forward(self) -> Distribution:
        """A distribution with batch () and event (D,), made anew from the parameters at each call."""
