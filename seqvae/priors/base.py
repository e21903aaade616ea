"""The contract of priors: () -> p(z)."""

from abc import ABC, abstractmethod

from torch import nn
from torch.distributions import Distribution


class Prior(nn.Module, ABC):
    """The distribution that sentences are generated from.

    Attributes:
        spherical: z lies on the unit sphere, where its density lives: the posterior has to be spherical too.
    """

    spherical: bool = False

    @abstractmethod
    def forward(self) -> Distribution:
        """A distribution with batch () and event (D,), made anew from the parameters at each call."""
