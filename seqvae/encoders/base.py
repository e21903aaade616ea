"""The contract of encoders: a batch of sentences -> one vector each."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from seqvae.batch import Batch


class Encoder(nn.Module, ABC):
    """Embeds `batch.source` and reads it.

    Attributes:
        embed: (B, T) -> (B, T, E), shared with the decoder or the encoder's own.
        features: H, the size of the vector that it returns.
    """

    embed: nn.Module
    features: int

    def forward(self, batch: Batch) -> Tensor:
        """(B, H). Padding changes nothing, and each row depends on its own sentence alone."""
        return self.read(self.embed(batch.source), batch.lengths)

    @abstractmethod
    def read(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, E) embedded steps, of which the first `lengths` (B,) of each row count -> (B, H)."""


class NoEncoder(Encoder):
    """Reads nothing: the encoder of a language model, whose z has no dimensions; not in the catalogue.

    >>> NoEncoder()(Batch.of([[7, 2], [8, 2]])).shape
    torch.Size([2, 0])
    """

    features = 0

    def forward(self, batch: Batch) -> Tensor:
        """(B, 0)."""
        return torch.zeros(len(batch), 0, device=batch.lengths.device)

    def read(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """(B, 0)."""
        return embedded.new_zeros(len(embedded), 0)
