"""Tokens: each step is one of a vocabulary."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

from seqvae.data.batch import UNKNOWN
from seqvae.errors import ConfigError
from seqvae.model.layers import check_share
from seqvae.model.observations.base import Observation
from seqvae.model.sampling import inverse, relative, without

GROWTH = 4  # each cluster reaches so many times as far down the list of words as the one before


class Tokens(Observation):
    """Categorical over a vocabulary: log softmax(W g(f) + b), or the same in two steps, by clusters of words.

    With a `head_size` it is an adaptive softmax: log p(w) = log p(w or its cluster c) + log p(w | c), where the first
    softmax is over the words of the head_size and the clusters, and the second over the words of c, needed only where w
    is one of them. Both are normalized, so that log p is as exact and as comparable as with one softmax over all.

    Args:
        vocabulary: V.
        embedding: E.
        features: the size of the decoder's vectors.
        tied: W is the embedding itself (Press & Wolf 2017, https://arxiv.org/abs/1608.05859) and g maps features to E;
            otherwise W maps features straight to V and g is the identity.
        embedding_dropout: share of the vocabulary whose embeddings are zero throughout a pass in training, the others
            scaled up, for what the decoder is fed alone (Gal & Ghahramani, A Theoretically Grounded Application of
            Dropout in Recurrent Neural Networks, 2016, https://arxiv.org/abs/1512.05287).
        head_size: how many of the first ids, of words and characters the most frequent ones, are scored at each step.
            The next three times as many are the first cluster, and so on; 0, or as many as there are: no clusters.
            Measured on words alone: with `bpe`, whose first ids are bytes, it is as exact and may be less quick.
        largest_cluster: how many words a cluster holds at most; 0: as many as come.

    Source of the clusters: Grave et al., Efficient softmax approximation for GPUs, 2017,
    https://arxiv.org/abs/1609.04309; here all words keep E dimensions, so that W can be tied.
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
        check_share(embedding_dropout=embedding_dropout)
        if head_size < 0 or 0 < head_size <= UNKNOWN:
            least = f"more than {UNKNOWN} tokens, those that no text holds included, or 0 for one softmax over all"
            raise ConfigError(f"head_size = {head_size}: expected {least}")
        if largest_cluster < 0:
            raise ConfigError(
                f"largest_cluster = {largest_cluster}: expected a number of words, or 0 for clusters of any size"
            )
        self.size, self.embedding_dropout = vocabulary, embedding_dropout
        self.embedding = embedding_table(vocabulary, embedding)
        self.project = nn.Linear(features, embedding) if tied else nn.Identity()
        self.output = nn.Linear(embedding if tied else features, vocabulary)
        nn.init.zeros_(self.output.bias)
        if tied:
            self.output.weight = self.embedding.weight
        ends = [head_size or vocabulary]
        while ends[-1] < vocabulary:
            ends.append(min(ends[-1] * GROWTH, ends[-1] + (largest_cluster or vocabulary)))
        self.edges = [0, *ends[:-1], vocabulary]  # of the head_size and the clusters
        self.clusters = nn.Linear(self.output.in_features, len(ends) - 1) if len(ends) > 1 else None

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
        """(..., features) -> (..., V); with clusters these are log probabilities."""
        x = self.project(features)
        if self.clusters is None:
            return self.output(x)
        (weight, bias), *rest = self._pieces()
        first = single(F.linear(x, weight, bias)).log_softmax(-1)
        head_size, clusters = first.split([self.edges[1], len(rest)], dim=-1)
        within = [single(F.linear(x, w, b)).log_softmax(-1) for w, b in rest]
        return torch.cat([head_size, *(a[..., None] + b for a, b in zip(clusters.unbind(-1), within, strict=True))], -1)

    def distribution(self, features: Tensor) -> Categorical:
        """(..., features) -> over ids, batch (...)."""
        return Categorical(logits=self.logits(features), validate_args=False)

    def log_prob(self, features: Tensor, targets: Tensor) -> Tensor:
        """(B, T) nats; normalized in single precision at least, since bf16 has three digits."""
        said, count = targets.flatten(), targets.numel()
        extra = padding(count, features.device)
        x, said = self.project(lengthen(features.flatten(0, 1), extra)), lengthen(said, extra)
        (weight, bias), *rest = self._pieces()
        cluster = torch.bucketize(said, said.new_tensor(self.edges[1:-1]), right=True)  # 0: the head_size
        log_prob = score(x, weight, bias, torch.where(cluster == 0, said, self.edges[1] + cluster - 1))
        for number, (start, (weight, bias)) in enumerate(zip(self.edges[1:], rest, strict=False), start=1):
            rows = (cluster == number).nonzero()[:, 0]
            extra = padding(len(rows), features.device)
            within = score(x[lengthen(rows, extra)], weight, bias, lengthen(said[rows] - start, extra))
            log_prob = log_prob.index_add(0, rows, within[: len(rows)])
        return log_prob[:count].view(targets.shape)

    def draw(self, features: Tensor, u: Tensor, banned: list[int]) -> tuple[Tensor, Tensor]:
        """A token for each row, with the probabilities of the model; a cluster's words are scored where it is drawn.

        Args:
            features: (R, features).
            u: (R,) float64, uniform in [0, 1).
            banned: reserved ids that are not to be drawn.

        Returns:
            (R,) ids, and (R,) log p of each, nats, the banned ones counted.
        """
        x = self.project(features)
        (weight, bias), *rest = self._pieces()
        logits = single(F.linear(x, weight, bias))
        token, u = inverse(relative(without(logits, banned)), u)
        log_prob = logits.gather(-1, token[:, None])[:, 0] - logits.logsumexp(-1)
        choice = token
        for cluster, (start, (weight, bias)) in enumerate(zip(self.edges[1:], rest, strict=False)):
            rows = (choice == self.edges[1] + cluster).nonzero()[:, 0]
            logits = single(F.linear(x[rows], weight, bias))
            word, _ = inverse(relative(logits), u[rows])
            token = token.index_copy(0, rows, start + word)
            gain = logits.gather(-1, word[:, None])[:, 0] - logits.logsumexp(-1)
            log_prob = log_prob.index_add(0, rows, gain)
        return token, log_prob

    def likeliest(self, features: Tensor, count: int, banned: list[int]) -> tuple[Tensor, Tensor]:
        """The likeliest tokens of each row; a cluster is looked into where all of it is likelier than the last found.

        Args:
            features: (R, features).
            count: how many, if there are as many.
            banned: reserved ids that are not to be found.

        Returns:
            (R, K) ids, and (R, K) log p of each, nats, the banned ones counted; the likeliest first.
        """
        if self.clusters is None or count > self.edges[1]:
            logits = self.logits(features)
            values, ids = without(logits, banned).topk(min(count, logits.shape[-1]), dim=-1)
            return ids, values - logits.logsumexp(-1, keepdim=True)
        x = self.project(features)
        (weight, bias), *rest = self._pieces()
        first = single(F.linear(x, weight, bias)).log_softmax(-1)
        values, ids = without(first[:, : self.edges[1]], banned).topk(count, dim=-1)
        clusters = first[:, self.edges[1] :].unbind(1)
        for whole, start, (weight, bias) in zip(clusters, self.edges[1:], rest, strict=False):
            rows = (whole > values[:, -1]).nonzero()[:, 0]
            inside = whole[rows, None] + single(F.linear(x[rows], weight, bias)).log_softmax(-1)
            more, words = inside.topk(min(count, inside.shape[-1]), dim=-1)
            best, order = torch.cat([values[rows], more], dim=-1).topk(count, dim=-1)
            values = values.index_copy(0, rows, best)
            ids = ids.index_copy(0, rows, torch.cat([ids[rows], start + words], dim=-1).gather(-1, order))
        return ids, values

    def _pieces(self) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of the first softmax, over head_size and clusters, then of each cluster's."""
        if self.clusters is None:
            return [(self.output.weight, self.output.bias)]
        sizes = [end - start for start, end in pairwise(self.edges)]
        weights, biases = self.output.weight.split(sizes), self.output.bias.split(sizes)
        first = torch.cat([weights[0], self.clusters.weight]), torch.cat([biases[0], self.clusters.bias])
        return [first, *zip(weights[1:], biases[1:], strict=True)]


def padding(rows: int, device: torch.device) -> int:
    """How many rows to add to a product of matrices in half precision on a processor; nowhere else any.

    oneDNN builds a program for each shape that it meets, which takes as long as the product itself and a megabyte, so
    there are to be few: 32, 64, 96, 128, 192, 256, 384, 512, 768 ... What belongs to a shape is in part never freed.
    """
    if device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return 0
    step = max(32, 1 << max(0, (rows - 1).bit_length() - 2))
    return -rows % step


def lengthen(x: Tensor, extra: int) -> Tensor:
    """(N, ...) -> (N + extra, ...), zeros behind; the tensor itself where there is nothing to add."""
    return torch.cat([x, x.new_zeros(extra, *x.shape[1:])]) if extra else x


def score(x: Tensor, weight: Tensor, bias: Tensor, choice: Tensor) -> Tensor:
    """(N, E), one of C choices in each row -> (N,) nats, log softmax(W x + b) of it."""
    return -F.cross_entropy(single(F.linear(x, weight, bias)), choice, reduction="none")


def single(logits: Tensor) -> Tensor:
    """The logits in single precision at least."""
    return logits if logits.dtype.itemsize >= 4 else logits.float()


def embedding_table(vocabulary: int, embedding: int) -> nn.Embedding:
    """A (V, E) table of small weights, so that tied logits start near 0. No row is frozen: padding is masked."""
    return nn.Embedding.from_pretrained(torch.empty(vocabulary, embedding).uniform_(-0.1, 0.1), freeze=False)
