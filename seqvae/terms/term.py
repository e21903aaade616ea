"""What a term is, and the one that every objective has."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from seqvae.vae import Trace


class Term(nn.Module, ABC):
    """Something to be minimized, for each sentence by itself unless it says otherwise."""

    @property
    def settled(self) -> bool:
        """Whether the term is what it will be to the end; the best model is one from after that."""
        return True

    @abstractmethod
    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats."""


class Reconstruction(Term):
    """-log p(x|z): the cross-entropy summed over the words and the one end of the sentence."""

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats."""
        return trace.reconstruction
