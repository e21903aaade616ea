"""What a term is, the one that every objective has, and the one that most do not need."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from seqvae.model.vae import Trace


class Term(nn.Module, ABC):
    """Something to be minimized, for each sentence by itself unless it says otherwise."""

    @property
    def settled(self) -> bool:
        """Whether the term is what it will be to the end; the best model is one from after that."""
        return True

    def observe(self, kl: float) -> None:
        """Take note of the mean KL of the validation sentences (nats), the same in all processes."""

    @abstractmethod
    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats."""


class Nothing(Term):
    """0: no auxiliary term."""

    def forward(self, trace: Trace) -> Tensor:
        """(B,) zeros."""
        return trace.z.new_zeros(len(trace.z))


class Reconstruction(Term):
    """-log p(x|z): the cross-entropy summed over the words and the one end of the sentence."""

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats."""
        return trace.reconstruction
