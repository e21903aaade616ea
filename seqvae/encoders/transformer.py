"""A Transformer encoder."""

from typing import Literal

import torch
from torch import Tensor, nn

from seqvae.attention import Block
from seqvae.dropout import SequenceDropout
from seqvae.encoders.base import Encoder
from seqvae.errors import check_size

MOST_LAYERS = 64


class TransformerEncoder(Encoder):
    """Self-attention over the whole sentence, pooled over time; see `seqvae.attention` for the sources.

    Args:
        embed: (B, T) ids -> (B, T, E), shared with the decoder or the encoder's own.
        embedding: E.
        width: H, size of the vector of each step, divisible by twice the heads.
        heads: attentions beside each other in each layer.
        hidden: units of each layer's feed-forward part.
        layers: how many, stacked.
        pooling: `first` (the output at a learnt vector that stands before the sentence, as in BERT: Devlin et al. 2019,
            https://arxiv.org/abs/1810.04805), or the `mean` or `max` of the outputs over the sentence.
        dropout: share dropped from the embeddings and from what each half of a layer adds.
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
        check_size(MOST_LAYERS, layers=layers)
        self.embed = embed
        self.enter = nn.Linear(embedding, width)
        self.front = nn.Parameter(0.02 * torch.randn(width)) if pooling == "first" else None
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, hidden=hidden, dropout=dropout, locked=locked) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.pooling = pooling
        self.features = width

    def read(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, E), (B,) -> (B, H)."""
        x = self.enter(self.dropout(embedded))
        if self.front is not None:
            x = torch.cat([self.front.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
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
