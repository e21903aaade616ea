"""Encoders: a batch of sentences -> features of each, (B, H)."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqvae.data.batch import Batch
from seqvae.errors import check_size
from seqvae.model.layers import MAX_LAYERS, Block, SequenceDropout


class Encoder(nn.Module, ABC):
    """A module that embeds `batch.source` and summarizes it in one vector.

    Attributes:
        embed: (B, T) ids -> (B, T, E), shared with the decoder or the encoder's own.
        features: H, the size of the vector that it returns.
    """

    embed: nn.Module
    features: int

    def forward(self, batch: Batch) -> Tensor:
        """Return (B, H). Padding changes nothing, and each row depends on its own sentence alone."""
        return self.encode_embeddings(self.embed(batch.source), batch.lengths)

    @abstractmethod
    def encode_embeddings(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Map embedded tokens (B, T, E), of which the first `lengths` (B,) of each row count, to (B, H)."""


class NoEncoder(Encoder):
    """The encoder of a language model, whose z has no dimensions: it reads nothing, and is not in the catalogue.

    >>> NoEncoder()(Batch.of([[7, 2], [8, 2]])).shape
    torch.Size([2, 0])
    """

    features = 0

    def forward(self, batch: Batch) -> Tensor:
        """Return (B, 0)."""
        return torch.zeros(len(batch), 0, device=batch.lengths.device)

    def encode_embeddings(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Return (B, 0)."""
        return embedded.new_zeros(len(embedded), 0)


class RecurrentEncoder(Encoder):
    """An LSTM or GRU over the embedded sentence, pooled over time.

    Args:
        embed: (B, T) ids -> (B, T, E), shared with the decoder or the encoder's own.
        embedding: E.
        cell: `lstm` (Hochreiter & Schmidhuber 1997) or `gru` (Cho et al. 2014).
        hidden: units of each layer and direction.
        layers: number of stacked layers.
        bidirectional: also read backward; H is then 2 * hidden.
        pooling: `last` (the final state of each direction), or the `mean` or `max` of the outputs over the sentence.
        dropout: probability of dropping features of the embeddings, and of what passes between layers.
        locked: drop the same features at every step of a sentence instead of others at each step.
    """

    def __init__(
        self,
        *,
        embed: nn.Module,
        embedding: int,
        cell: Literal["lstm", "gru"] = "lstm",
        hidden: int = 128,
        layers: int = 1,
        bidirectional: bool = True,
        pooling: Literal["last", "mean", "max"] = "max",
        dropout: float = 0.3,
        locked: bool = True,
    ) -> None:
        super().__init__()
        check_size(hidden=hidden)
        check_size(MAX_LAYERS, layers=layers)
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

    def encode_embeddings(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Map embedded tokens (B, T, E) and lengths (B,) to (B, H)."""
        x = self.dropout(embedded)
        steps, known = x.shape[1], lengths.cpu()
        if bool((known == steps).all()):
            outputs, _ = self.rnn(x)
        elif x.device.type == "cpu":  # where rows that are packed are several times as slow
            outputs = self._read_padded(x, lengths)
        else:
            x = x.to(next(self.rnn.parameters()).dtype)  # embedded frames are in half precision
            packed = pack_padded_sequence(x, known, batch_first=True, enforce_sorted=False)
            outputs, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=steps)
        return self._pool(outputs, lengths)

    def _read_padded(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Do what the layers do to packed rows; the outputs (B, T, H) beyond the end of a row mean nothing.

        Padding at the end cannot change what is read before it, and backward each row is read turned around.
        """
        directions, rnn = 1 + self.rnn.bidirectional, self.rnn
        step = torch.arange(x.shape[1], device=x.device)
        turned = torch.where(step < lengths[:, None], lengths[:, None] - 1 - step, step)[..., None]  # (B, T, 1)
        zero = x.new_zeros(1, x.shape[0], rnn.hidden_size)
        for layer in range(rnn.num_layers):
            if layer:
                x = F.dropout(x, rnn.dropout, self.training)
            outputs = []
            for direction, weights in enumerate(rnn.all_weights[directions * layer : directions * (layer + 1)]):
                own = x.gather(1, turned.expand_as(x)) if direction else x
                options = (weights, True, 1, 0.0, self.training, False, True)
                own = (
                    torch.lstm(own, (zero, zero), *options)[0]
                    if rnn.mode == "LSTM"
                    else torch.gru(own, zero, *options)[0]
                )
                outputs.append(own.gather(1, turned.expand_as(own)) if direction else own)
            x = torch.cat(outputs, dim=-1)
        return x

    def _pool(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        """Pool (B, T, H) over the first `lengths` steps of each row: (B, H)."""
        mask = (torch.arange(outputs.shape[1], device=lengths.device) < lengths[:, None])[..., None]
        match self.pooling:
            case "mean":
                return torch.where(mask, outputs, 0).sum(1) / lengths[:, None]
            case "max":
                return outputs.masked_fill(~mask, -torch.inf).amax(1)
        rows = torch.arange(outputs.shape[0], device=outputs.device)  # not len(): an export to ONNX would fix it
        last = outputs[rows, lengths - 1]
        if not self.rnn.bidirectional:
            return last
        forward, _ = last.chunk(2, dim=-1)
        _, backward = outputs[:, 0].chunk(2, dim=-1)  # the backward direction ends at the first token
        return torch.cat([forward, backward], dim=-1)


class TransformerEncoder(Encoder):
    """A Transformer over the whole sentence, pooled over time; see `seqvae.model.layers` for the sources.

    Args:
        embed: (B, T) ids -> (B, T, E), shared with the decoder or the encoder's own.
        embedding: E.
        width: H, the size of the vector of each step, divisible by twice the heads.
        heads: attention heads of each layer.
        hidden: units of each layer's feed-forward block.
        layers: number of stacked layers.
        pooling: `first` (the output at a learnt vector put before the sentence, as in BERT: Devlin et al. 2019,
            https://arxiv.org/abs/1810.04805), or the `mean` or `max` of the outputs over the sentence.
        dropout: probability of dropping features of the embeddings and of both residual branches of each layer.
        locked: drop the same features at every step of a sentence instead of others at each step.
    """

    def __init__(
        self,
        *,
        embed: nn.Module,
        embedding: int,
        width: int = 256,
        heads: int = 4,
        hidden: int = 512,
        layers: int = 2,
        pooling: Literal["first", "mean", "max"] = "max",
        dropout: float = 0.1,
        locked: bool = False,
    ) -> None:
        super().__init__()
        check_size(MAX_LAYERS, layers=layers)
        self.embed = embed
        self.enter = nn.Linear(embedding, width)
        self.front = nn.Parameter(nn.init.normal_(torch.empty(width), std=0.02)) if pooling == "first" else None
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, hidden=hidden, dropout=dropout, locked=locked) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.pooling = pooling
        self.features = width

    def encode_embeddings(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Map embedded tokens (B, T, E) and lengths (B,) to (B, H)."""
        x = self.enter(self.dropout(embedded))
        if self.front is not None:
            x = torch.cat([self.front.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)
            lengths = lengths + 1
        mask = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (B, T)
        for block in self.blocks:
            x, _ = block(x, mask[:, None, None])
        x, mask = self.norm(x), mask[..., None]
        match self.pooling:
            case "first":
                return x[:, 0]
            case "mean":
                return torch.where(mask, x, 0).sum(1) / lengths[:, None]
        return x.masked_fill(~mask, -torch.inf).amax(1)


ENCODERS: dict[str, type[Encoder]] = {"recurrent": RecurrentEncoder, "transformer": TransformerEncoder}
