"""The abstract class of observations: what x is made of."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from torch import Tensor, nn
from torch.distributions import Distribution


class Observation(nn.Module, ABC):
    """The two ends of the decoder: the embedding of x_t, and the probability of x_t given the decoder's features.

    Attributes:
        embedding: the module that `embed` applies; an encoder may share it.
        size: V, or the channels F of a frame.
        kind: what a step of x is, as `Corpus.observation` names it: `tokens` or `frames`.
    """

    embedding: nn.Module
    size: int
    kind: ClassVar[str] = "tokens"

    def fit_scale(self, moments: tuple[np.ndarray, np.ndarray] | None) -> None:
        """Take mean and standard deviation, (F,) each, of the channels in the training split; tokens have none."""

    @abstractmethod
    def build_embedding(self) -> nn.Module:
        """Build a new module like `embedding`, for an encoder that does not share it."""

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Map ids (B, T), or frames (B, T, 1 + F), to (B, T, E)."""

    @abstractmethod
    def distribution(self, features: Tensor) -> Distribution:
        """Return p(x_t | features), batch (...), for features (..., features)."""

    @abstractmethod
    def log_prob(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return log p (B, T), nats, of targets given features (B, T, features), not reduced and not masked."""

    def logits(self, features: Tensor) -> Tensor:
        """Return unnormalized log-probabilities (..., V), where x_t is one of V tokens."""
        raise NotImplementedError(f"{type(self).__name__} has no tokens, and so no logits")
