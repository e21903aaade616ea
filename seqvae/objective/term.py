"""The abstract class of terms, and the two plain ones."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from seqvae.errors import ConfigError
from seqvae.model.vae import Trace


class Term(nn.Module, ABC):
    """A part of the loss, a function of each sentence by itself unless documented otherwise.

    `Objective` calls terms of z only where z has dimensions, so that none has to treat a language model.

    Attributes:
        kl_weight: how much of the raw KL there is in the bound that chooses the best model of a training, of which a
            divergence with this term has the lowest on the validation sentences. 1 is the true bound; a divergence
            that lets q(z|x) become a point has 0, as the KL then grows while the model gets better.
    """

    kl_weight: float = 1.0

    @property
    def stationary(self) -> bool:
        """Whether the term no longer changes by a schedule or controller; the best model is one from after that."""
        return True

    def observe(self, kl: float) -> None:
        """Take note of the mean KL of the validation sentences (nats), the same in all processes."""

    @abstractmethod
    def forward(self, trace: Trace) -> Tensor:
        """Return (B,) nats."""


def weigh(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the values (B, ...) of each sentence times its weight (B,); as they are without weights."""
    if weights is None:
        return values
    return weights.to(values.dtype).view(-1, *[1] * (values.dim() - 1)) * values


def average(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean (...) over a batch of values (B, ...), in which a sentence of weight 2 counts as two.

    >>> import torch
    >>> average(torch.tensor([4.0, 1.0]), torch.tensor([2.0, 1.0]))
    tensor(3.)
    """
    return weigh(values, None if weights is None else weights / weights.mean()).mean(0)


def refuse_weights(weights: Tensor | None, place: str, name: str, instead: str) -> None:
    """Raise a `ConfigError` if sentences have weights, for a part of the objective that has no place for them."""
    if weights is not None:
        raise ConfigError(
            f"objective.{place} = {name} does not go with weights of sentences: leave the weights (--weight-column) "
            f"out, or write --objective.{place}.name {instead}"
        )


class Zero(Term):
    """No auxiliary term: 0."""

    def forward(self, trace: Trace) -> Tensor:
        """Return (B,) zeros."""
        return trace.z.new_zeros(len(trace.z))


class Reconstruction(Term):
    """-log p(x|z): the cross-entropy, summed over the tokens of the sentence and its EOS."""

    def forward(self, trace: Trace) -> Tensor:
        """Return (B,) nats."""
        return trace.reconstruction
