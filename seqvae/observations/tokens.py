"""Tokens: each step is one of a vocabulary."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

from seqvae.dropout import check_share
from seqvae.observations.base import Observation


class Tokens(Observation):
    """Categorical over a vocabulary: log softmax(W g(f) + b).

    Args:
        vocabulary: V.
        embedding: E.
        features: the size of the decoder's vectors.
        tied: W is the embedding itself (Press & Wolf 2017, https://arxiv.org/abs/1608.05859) and g maps features to E;
            otherwise W maps features straight to V and g is the identity.
        embedding_dropout: share of the vocabulary whose embeddings are zero throughout a pass in training, the others
            scaled up, for what the decoder is fed alone (Gal & Ghahramani, A Theoretically Grounded Application of
            Dropout in Recurrent Neural Networks, 2016, https://arxiv.org/abs/1512.05287).
    """

    embedding: nn.Embedding

    def __init__(
        self, *, vocabulary: int, embedding: int, features: int, tied: bool = True, embedding_dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_share(embedding_dropout=embedding_dropout)
        self.size, self.embedding_dropout = vocabulary, embedding_dropout
        self.embedding = embedding_table(vocabulary, embedding)
        self.project = nn.Linear(features, embedding) if tied else nn.Identity()
        self.output = nn.Linear(embedding if tied else features, vocabulary)
        nn.init.zeros_(self.output.bias)
        if tied:
            self.output.weight = self.embedding.weight

    def another_embedding(self) -> nn.Embedding:
        """A table of the same size."""
        return embedding_table(*self.embedding.weight.shape)

    def embed(self, x: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, E)."""
        if not self.training or self.embedding_dropout == 0:
            return self.embedding(x)
        kept = F.dropout(torch.ones_like(self.embedding.weight[:, 0]), self.embedding_dropout)  # (V,)
        return self.embedding(x) * kept[x][..., None]

    def logits(self, features: Tensor) -> Tensor:
        """(..., features) -> (..., V)."""
        return self.output(self.project(features))

    def distribution(self, features: Tensor) -> Categorical:
        """(..., features) -> over ids, batch (...)."""
        return Categorical(logits=self.logits(features), validate_args=False)

    def log_prob(self, features: Tensor, targets: Tensor) -> Tensor:
        """(B, T) nats; normalized in single precision at least, since bf16 has three digits."""
        logits = self.logits(features).flatten(0, 1)
        logits = logits if logits.dtype.itemsize >= 4 else logits.float()
        return -F.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)


def embedding_table(vocabulary: int, embedding: int) -> nn.Embedding:
    """A (V, E) table of small weights, so that tied logits start near 0. No row is frozen: padding is masked."""
    return nn.Embedding.from_pretrained(torch.empty(vocabulary, embedding).uniform_(-0.1, 0.1), freeze=False)
