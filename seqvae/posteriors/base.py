"""The contract of posteriors: the encoder's vector -> q(z|x)."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.distributions import Distribution


class Posterior(nn.Module, ABC):
    """A family of reparameterized distributions over z.

    Attributes:
        spherical: z lies on the unit sphere, where its densities live: the prior has to be spherical too.
    """

    spherical: bool = False

    @abstractmethod
    def forward(self, h: Tensor) -> Distribution:
        """(B, H) -> a distribution with batch (B,) and event (D,), whose `rsample` carries gradients."""
