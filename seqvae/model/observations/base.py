"""The contract of observations: what x is made of."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.distributions import Distribution


class Observation(nn.Module, ABC):
    """The last step of the model, from the decoder's features to the probability of what is observed.

    Attributes:
        embedding: what `embed` applies; an encoder may share it.
        size: V, or the channels F of a frame: the number that a model is built for.
    """

    embedding: nn.Module
    size: int

    @abstractmethod
    def another_embedding(self) -> nn.Module:
        """A new module like `embedding`, for an encoder that does not share it."""

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """(B, T) ids, or (B, T, 1 + F) steps of series -> (B, T, E)."""

    @abstractmethod
    def distribution(self, features: Tensor) -> Distribution:
        """(..., features) -> the distribution of x_t, batch (...)."""

    @abstractmethod
    def log_prob(self, features: Tensor, targets: Tensor) -> Tensor:
        """(B, T, features) and targets as for `embed` -> (B, T) nats, not reduced and not masked."""

    def logits(self, features: Tensor) -> Tensor:
        """(..., features) -> (..., V), unnormalized log probabilities, where x_t is one of V choices."""
        raise NotImplementedError(f"{type(self).__name__} observes no choice among a number of tokens")
