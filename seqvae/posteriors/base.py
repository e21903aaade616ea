"""The contract of posteriors: the encoder's vector -> q(z|x)."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.distributions import Distribution


class Posterior(nn.Module, ABC):
    """A family of reparameterized distributions over z."""

    @abstractmethod
    def forward(self, h: Tensor) -> Distribution:
        """(B, H) -> a distribution with batch (B,) and event (D,), whose `rsample` carries gradients."""
