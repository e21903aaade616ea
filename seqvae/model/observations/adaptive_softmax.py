"""The adaptive softmax: log p of one of V tokens in two steps, so that rare tokens cost little.

log p(w) = log p(w or its cluster c) + log p(w | c). The first softmax is over the head, the most frequent tokens, and
the clusters; the second is over the tokens of c, and needed only where w is one of them. Both are normalized, so that
log p is as exact and as comparable as that of one softmax over all tokens.

Source: Grave et al., Efficient softmax approximation for GPUs, 2017, https://arxiv.org/abs/1609.04309; here all tokens
keep all dimensions, so that the weights can be tied to an embedding.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqvae.model.sampling import ban_tokens, invert_cdf, unnormalized_softmax

MAX_LOGITS = 2**27  # rows * V that are scored at once where clusters are not skipped
GROWTH = 4  # ratio of the last ids of two clusters in a row


class AdaptiveSoftmax(nn.Linear):
    """A linear layer E -> V and its log softmax, by clusters of ids. Its `weight` (V, E) can be tied to an embedding.

    Args:
        features: E.
        vocabulary: V; ids are in order of frequency.
        head_size: number of ids in the head, the first ones. The next three times as many are the first cluster, and
            so on; 0, or V and more: one softmax over all.
        largest_cluster: the most ids of a cluster; 0: no limit.

    Attributes:
        edges: 0, the end of the head, and the end of each cluster, V the last.

    On a CPU a cluster is scored only for the rows that need it. On a GPU the many small operations of that, and the
    wait for the number of these rows, cost more than to score all tokens, which is done there as far as memory allows.
    """

    starts: Tensor

    def __init__(self, features: int, vocabulary: int, *, head_size: int, largest_cluster: int = 0) -> None:
        super().__init__(features, vocabulary)
        nn.init.zeros_(self.bias)
        ends = [head_size or vocabulary]
        while ends[-1] < vocabulary:
            ends.append(min(ends[-1] * GROWTH, ends[-1] + (largest_cluster or vocabulary)))
        self.edges = [0, *ends[:-1], vocabulary]
        self.clusters = nn.Linear(features, len(ends) - 1) if len(ends) > 1 else None
        self.register_buffer("starts", torch.tensor(self.edges[1:-1]), persistent=False)  # first ids of the clusters

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., E) to (..., V), unnormalized log-probabilities; with clusters they are normalized."""
        if self.clusters is None:
            return super().forward(x)
        (weight, bias), *tails = self._split_weights()
        first = upcast(F.linear(x, weight, bias)).log_softmax(-1)
        head, clusters = first.split([self.edges[1], len(tails)], dim=-1)
        within = [upcast(F.linear(x, w, b)).log_softmax(-1) for w, b in tails]
        return torch.cat([head, *(a[..., None] + b for a, b in zip(clusters.unbind(-1), within, strict=True))], dim=-1)

    def log_prob(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return log p (N,), nats, of targets (N,) given x (N, E), in single precision at least."""
        cluster = torch.bucketize(targets, self.starts, right=True)  # 0: the head
        choice = torch.where(cluster == 0, targets, self.edges[1] + cluster - 1)
        if self.clusters is not None and not skips_clusters(x) and len(x) * self.out_features <= MAX_LOGITS:
            return self._score_all(x, targets, cluster, choice)
        (weight, bias), *tails = self._split_weights()
        log_prob = score(x, weight, bias, choice)
        for number, (start, (weight, bias)) in enumerate(zip(self.edges[1:], tails, strict=False), start=1):
            rows = (cluster == number).nonzero()[:, 0]
            extra = count_padding(len(rows), x.device)
            within = score(x[pad_rows(rows, extra)], weight, bias, pad_rows(targets[rows] - start, extra))
            log_prob = log_prob.index_add(0, rows, within[: len(rows)])
        return log_prob

    def sample(self, x: Tensor, u: Tensor, banned: list[int]) -> tuple[Tensor, Tensor]:
        """Sample an id for each row by inverse transform; a cluster's ids are scored only where it is sampled.

        Args:
            x: (N, E).
            u: (N,) float64, uniform in [0, 1).
            banned: ids of the head that are not to be sampled.

        Returns:
            (N,) ids, and (N,) log p of each, nats; the banned ones keep their probability in it.
        """
        if not skips_clusters(x):
            logits = upcast(self(x))
            token, _ = invert_cdf(unnormalized_softmax(ban_tokens(logits, banned)), u)
            return token, logits.gather(-1, token[:, None])[:, 0] - logits.logsumexp(-1)
        (weight, bias), *tails = self._split_weights()
        logits = upcast(F.linear(x, weight, bias))
        choice, u = invert_cdf(unnormalized_softmax(ban_tokens(logits, banned)), u)
        log_prob = logits.gather(-1, choice[:, None])[:, 0] - logits.logsumexp(-1)
        token = choice
        for cluster, (start, (weight, bias)) in enumerate(zip(self.edges[1:], tails, strict=False)):
            rows = (choice == self.edges[1] + cluster).nonzero()[:, 0]
            logits = upcast(F.linear(x[rows], weight, bias))
            place, _ = invert_cdf(unnormalized_softmax(logits), u[rows])
            token = token.index_copy(0, rows, start + place)
            gain = logits.gather(-1, place[:, None])[:, 0] - logits.logsumexp(-1)
            log_prob = log_prob.index_add(0, rows, gain)
        return token, log_prob

    def topk(self, x: Tensor, k: int, banned: list[int]) -> tuple[Tensor, Tensor]:
        """Find the k most probable ids of each row; clusters less probable than the k-th id so far are not scored.

        Args:
            x: (N, E).
            k: number of ids; at most V of them are returned.
            banned: ids of the head that are not to be found.

        Returns:
            (N, K) ids, and (N, K) log p of each, nats, in descending order; the banned ones keep their probability.
        """
        if self.clusters is None or k > self.edges[1] or not skips_clusters(x):
            logits = self(x)
            values, ids = ban_tokens(logits, banned).topk(min(k, logits.shape[-1]), dim=-1)
            return ids, values - logits.logsumexp(-1, keepdim=True)
        (weight, bias), *tails = self._split_weights()
        first = upcast(F.linear(x, weight, bias)).log_softmax(-1)
        values, ids = ban_tokens(first[:, : self.edges[1]], banned).topk(k, dim=-1)
        clusters = first[:, self.edges[1] :].unbind(1)
        for total, start, (weight, bias) in zip(clusters, self.edges[1:], tails, strict=False):
            rows = (total > values[:, -1]).nonzero()[:, 0]
            within = total[rows, None] + upcast(F.linear(x[rows], weight, bias)).log_softmax(-1)
            more, places = within.topk(min(k, within.shape[-1]), dim=-1)
            best, order = torch.cat([values[rows], more], dim=-1).topk(k, dim=-1)
            values = values.index_copy(0, rows, best)
            ids = ids.index_copy(0, rows, torch.cat([ids[rows], start + places], dim=-1).gather(-1, order))
        return ids, values

    def _score_all(self, x: Tensor, targets: Tensor, cluster: Tensor, choice: Tensor) -> Tensor:
        """Compute what `log_prob` does with one product for all tokens, of which each row masks other clusters.

        Args:
            x: (N, E).
            targets: (N,).
            cluster: (N,), of each target; 0 is the head.
            choice: (N,), the target, or its cluster, in the first softmax.
        """
        assert self.clusters is not None
        logits = upcast(super().forward(x))  # (N, V)
        first = torch.cat([logits[:, : self.edges[1]], upcast(self.clusters(x))], dim=1)
        columns = torch.bucketize(torch.arange(self.out_features, device=x.device), self.starts, right=True)
        own = logits.masked_fill(columns != cluster[:, None], -torch.inf)
        within = F.cross_entropy(own, targets, reduction="none")
        return -F.cross_entropy(first, choice, reduction="none") - torch.where(cluster == 0, 0.0, within)

    def _split_weights(self) -> list[tuple[Tensor, Tensor]]:
        """Return weights and biases of the first softmax, over head and clusters, then those of each cluster's ids."""
        if self.clusters is None:
            return [(self.weight, self.bias)]
        sizes = [end - start for start, end in pairwise(self.edges)]
        weights, biases = self.weight.split(sizes), self.bias.split(sizes)
        first = torch.cat([weights[0], self.clusters.weight]), torch.cat([biases[0], self.clusters.bias])
        return [first, *zip(weights[1:], biases[1:], strict=True)]


def skips_clusters(x: Tensor) -> bool:
    """Return whether to score a cluster only for the rows (N, E) that need it."""
    return x.device.type == "cpu"


def score(x: Tensor, weight: Tensor, bias: Tensor, choice: Tensor) -> Tensor:
    """Return log softmax(W x + b) of one of C choices (N,) for each row of x (N, E): (N,) nats."""
    return -F.cross_entropy(upcast(F.linear(x, weight, bias)), choice, reduction="none")


def upcast(logits: Tensor) -> Tensor:
    """Return the logits in single precision at least."""
    return logits if logits.dtype.itemsize >= 4 else logits.float()


def count_padding(rows: int, device: torch.device) -> int:
    """Return how many rows to add to a matrix product in half precision on a CPU; 0 in all other cases.

    oneDNN compiles a primitive for each new shape, which takes as long as the product itself and a megabyte that is
    never freed entirely. So that there are few shapes, rows are padded to 32, 64, 96, 128, 192, 256, 384, 512, 768 ...
    """
    if device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return 0
    step = max(32, 1 << max(0, (rows - 1).bit_length() - 2))
    return -rows % step


def pad_rows(x: Tensor, extra: int) -> Tensor:
    """Append rows of zeros: (N, ...) -> (N + extra, ...); the tensor itself where there is nothing to add."""
    return torch.cat([x, x.new_zeros(extra, *x.shape[1:])]) if extra else x
