"""Encoders: a batch of sentences -> one vector each."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqvae.batch import Batch
from seqvae.dropout import SequenceDropout
from seqvae.errors import check_size

MOST_LAYERS = 64


class Encoder(nn.Module, ABC):
    """Reads `batch.source`.

    Attributes:
        features: H, the size of the vector that it returns.
    """

    features: int

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """(B, H). Padding changes nothing, and each row depends on its own sentence alone."""


class RecurrentEncoder(Encoder):
    """An LSTM or GRU over the embedded sentence, pooled over time.

    Args:
        embed: (B, T) ids -> (B, T, E), shared with the decoder or the encoder's own.
        embedding: E.
        cell: `lstm` (Hochreiter & Schmidhuber 1997) or `gru` (Cho et al. 2014).
        hidden: units of each layer and direction.
        layers: how many, stacked.
        bidirectional: also read from the end; H is then 2 * hidden.
        pooling: `last` (the final state of each direction), or the `mean` or `max` of the outputs over the sentence.
        dropout: share of the embedding's features dropped, and of what passes between layers.
        locked: drop the same features at every step of a sentence instead of others at each step.
    """

    def __init__(
        self,
        *,
        embed: nn.Module,
        embedding: int,
        cell: Literal["lstm", "gru"] = "lstm",
        hidden: int = 256,
        layers: int = 1,
        bidirectional: bool = True,
        pooling: Literal["last", "mean", "max"] = "max",
        dropout: float = 0.3,
        locked: bool = True,
    ) -> None:
        super().__init__()
        check_size(hidden=hidden)
        check_size(MOST_LAYERS, layers=layers)
        self.embed = embed
        self.dropout = SequenceDropout(dropout, locked=locked)
        rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.rnn = rnn(
            embedding,
            hidden,
            num_layers=layers,
            bidirectional=bidirectional,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.pooling = pooling
        self.features = hidden * (1 + bidirectional)

    def forward(self, batch: Batch) -> Tensor:
        """(B, H)."""
        x = self.dropout(self.embed(batch.source))  # (B, T, E)
        if batch.even:  # nothing to pack, and unpacked sequences are the quick path on a CPU
            outputs, _ = self.rnn(x)
        else:
            packed = pack_padded_sequence(x, batch.lengths.cpu(), batch_first=True, enforce_sorted=False)
            outputs, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])
        return self._pool(outputs, batch)

    def _pool(self, outputs: Tensor, batch: Batch) -> Tensor:
        """(B, T, H) -> (B, H), over the steps that count."""
        mask = batch.mask[..., None]
        match self.pooling:
            case "mean":
                return torch.where(mask, outputs, 0).sum(1) / batch.lengths[:, None]
            case "max":
                return outputs.masked_fill(~mask, -torch.inf).amax(1)
        rows = torch.arange(len(batch), device=outputs.device)
        last = outputs[rows, batch.lengths - 1]
        if not self.rnn.bidirectional:
            return last
        forward, _ = last.chunk(2, dim=-1)
        _, backward = outputs[:, 0].chunk(2, dim=-1)  # the backward direction ends at the first token
        return torch.cat([forward, backward], dim=-1)


class NoEncoder(Encoder):
    """Reads nothing: the encoder of a language model, whose z has no dimensions; not in the catalogue.

    >>> NoEncoder()(Batch.of([[7, 2], [8, 2]])).shape
    torch.Size([2, 0])
    """

    features = 0

    def forward(self, batch: Batch) -> Tensor:
        """(B, 0)."""
        return torch.zeros(len(batch), 0, device=batch.lengths.device)


ENCODERS: dict[str, type[Encoder]] = {"recurrent": RecurrentEncoder}
