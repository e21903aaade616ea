"""Tokens: each step is one of a vocabulary."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

from seqvae.data.batch import UNKNOWN
from seqvae.errors import ConfigError
from seqvae.model.layers import check_dropout
from seqvae.model.observations.adaptive_softmax import AdaptiveSoftmax, count_padding, pad_rows
from seqvae.model.observations.base import Observation


class Tokens(Observation):
    """Categorical over a vocabulary: log softmax(W g(f) + b), f the decoder's features.

    With a `head_size` it is an adaptive softmax, which scores rare words by clusters: see
    `seqvae.model.observations.adaptive_softmax`.

    Args:
        vocabulary: V.
        embedding: E.
        features: the size of the decoder's features.
        tied: W is the embedding itself (Press & Wolf 2017, https://arxiv.org/abs/1608.05859) and g maps features to E;
            otherwise W maps features straight to V and g is the identity.
        embedding_dropout: probability that the embedding of a word of the vocabulary is zero throughout a pass in
            training, the others scaled up, for inputs of the decoder alone (Gal & Ghahramani, A Theoretically Grounded
            Application of Dropout in Recurrent Neural Networks, 2016, https://arxiv.org/abs/1512.05287).
        head_size: number of ids that are scored at each step: the first ones, which with tokenizers of words and
            characters are the most frequent. The next three times as many are the first cluster, and so on; 0, or V
            and more: one softmax over all. Measured on words alone: with `bpe`, whose first ids are bytes, it is as
            exact and may be slower.
        largest_cluster: the most words of a cluster; 0: no limit.
    """

    embedding: nn.Embedding

    def __init__(
        self,
        *,
        vocabulary: int,
        embedding: int,
        features: int,
        tied: bool = True,
        embedding_dropout: float = 0.0,
        head_size: int = 500,
        largest_cluster: int = 2000,
    ) -> None:
        super().__init__()
        check_dropout(embedding_dropout=embedding_dropout)
        if head_size < 0 or 0 < head_size <= UNKNOWN:
            least = f"more than {UNKNOWN} tokens, which include the reserved ones, or 0 for one softmax over all"
            raise ConfigError(f"head_size = {head_size}: expected {least}")
        if largest_cluster < 0:
            raise ConfigError(f"largest_cluster = {largest_cluster}: expected a number of words, or 0 for no limit")
        self.size, self.embedding_dropout = vocabulary, embedding_dropout
        self.embedding = build_embedding_table(vocabulary, embedding)
        self.project = nn.Linear(features, embedding) if tied else nn.Identity()
        self.output = AdaptiveSoftmax(
            embedding if tied else features, vocabulary, head_size=head_size, largest_cluster=largest_cluster
        )
        if tied:
            self.output.weight = self.embedding.weight

    def build_embedding(self) -> nn.Embedding:
        """Build a table of the same size."""
        return build_embedding_table(*self.embedding.weight.shape)

    def embed(self, x: Tensor) -> Tensor:
        """Map ids (B, T) to (B, T, E)."""
        if not self.training or self.embedding_dropout == 0:
            return self.embedding(x)
        kept = F.dropout(torch.ones_like(self.embedding.weight[:, 0]), self.embedding_dropout)  # (V,)
        return self.embedding(x) * kept[x][..., None]

    def logits(self, features: Tensor) -> Tensor:
        """Return unnormalized log-probabilities (..., V); with clusters they are normalized."""
        return self.output(self.project(features))

    def distribution(self, features: Tensor) -> Categorical:
        """Return p(x_t | features) over ids, batch (...)."""
        return Categorical(logits=self.logits(features), validate_args=False)

    def log_prob(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return log p (B, T), nats, of targets (B, T) given features (B, T, features)."""
        count = targets.numel()
        extra = count_padding(count, features.device)
        x = self.project(pad_rows(features.flatten(0, 1), extra))
        return self.output.log_prob(x, pad_rows(targets.flatten(), extra))[:count].view(targets.shape)

    def sample(self, features: Tensor, u: Tensor, banned: list[int]) -> tuple[Tensor, Tensor]:
        """Sample ids (N,), none of them banned, by u (N,) in [0, 1), and return them with log p of each."""
        return self.output.sample(self.project(features), u, banned)

    def topk(self, features: Tensor, k: int, banned: list[int]) -> tuple[Tensor, Tensor]:
        """Find the k most probable ids (N, K), none of them banned, and log p of each, in descending order."""
        return self.output.topk(self.project(features), k, banned)


def build_embedding_table(vocabulary: int, embedding: int) -> nn.Embedding:
    """Build a (V, E) table of small weights, so that tied logits start near 0. No row is frozen: padding is masked."""
    return nn.Embedding.from_pretrained(torch.empty(vocabulary, embedding).uniform_(-0.1, 0.1), freeze=False)
