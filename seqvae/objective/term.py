"""The abstract class of terms, and the two plain ones."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from seqvae.model.vae import Trace


class Term(nn.Module, ABC):
    """A part of the loss, a function of each sentence by itself unless documented otherwise.

    `Objective` calls terms of z only where z has dimensions, so that none has to treat a language model.
    """

    @property
    def stationary(self) -> bool:
        """Whether the term no longer changes by a schedule or controller; the best model is one from after that."""
        return True

    def observe(self, kl: float) -> None:
        """Take note of the mean KL of the validation sentences (nats), the same in all processes."""

    @abstractmethod
    def forward(self, trace: Trace) -> Tensor:
        """Return (B,) nats."""


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
