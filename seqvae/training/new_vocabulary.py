"""The weights of a trained model in another vocabulary: the rows of shared tokens, and a start for new ones."""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from seqvae.data.batch import UNKNOWN
from seqvae.data.text.tokenizer import RESERVED, Tokenizer

TABLES = ("observation.embedding.weight", "observation.output.weight", "encoder.embed.weight")  # a row for each token
BIAS, CLUSTERS = "observation.output.bias", "observation.output.clusters"
NOISE = 0.1  # standard deviation of new rows around the mean, relative to that of the rows


def map_tokens(old: Tokenizer, new: Tokenizer) -> Tensor:
    """Return (V,) int64: for each token of `new` its id in `old`, -1 where it has none.

    A word that `old` has only in lower case has that id. A word is the token of byte pairs with a space before it.
    """
    known = {key: id for id, key in enumerate(list_keys(old))}
    rows = [known.get((spaced, token), known.get((spaced, token.lower()), -1)) for spaced, token in list_keys(new)]
    rows[: len(RESERVED)] = range(len(RESERVED))
    return torch.tensor(rows)


def list_keys(tokenizer: Tokenizer) -> list[tuple[bool, str]]:
    """List for each token in the order of ids whether a space is before it, as before every word, and its text."""
    mark = "Ġ"  # of byte pairs, for that space
    tokens = map(tokenizer.get_token, range(len(tokenizer)))
    if tokenizer.kind == "word":
        return [(True, token) for token in tokens]
    return [(token.startswith(mark), token.removeprefix(mark)) for token in tokens]


def map_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Return (N, ...): row `rows[n]` of `table` (M, ...); where that is -1, the mean row and a little noise.

    The mean: a new token is then about as likely as any other in every context, so that the model's predictions for the
    known ones hardly change; a row of random numbers would be far from all others, whose norms have grown in training,
    and might take most of the probability. The noise lets new tokens differ from the first step on.

    Source: Hewitt, Initializing New Word Embeddings for Pretrained Language Models, 2021,
    https://nlp.stanford.edu/~johnhew/vocab-expansion.html.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(rows), *table.shape[1:], generator=generator).to(table)
    new = table.mean(0) + NOISE * table.std(0, unbiased=False) * noise
    known = rows >= 0
    new[known] = table[rows[known]]
    return new


def map_output(old: Any, new: Any, rows: Tensor) -> dict[str, Tensor]:
    """Return biases and weights of clusters for the output layer of another vocabulary.

    Ids are in order of frequency, so that a token of a cluster may come into the head or into another cluster. Its bias
    there is what makes it as likely, relative to the others, as it was, for features of 0:

        b'_w = b_w in the head, b_w + b_c - log sum_(v in c) exp(b_v) in cluster c,
        b'_c = log sum_(v in c) exp(b'_v) for each new cluster c.

    The weights of a new cluster are those of the old one of its number, or the mean of all; 0 where there was none.
    """
    bias, clusters, edges = old.output.bias.detach().clone(), old.output.clusters, old.output.edges
    if clusters is not None:
        for number, (start, end) in enumerate(pairwise(edges[1:])):
            bias[start:end] += clusters.bias[number].detach() - bias[start:end].logsumexp(0)
    bias = map_bias(bias, rows)
    found = {BIAS: bias}
    if new.output.clusters is not None:
        edges, shape = new.output.edges, new.output.clusters.weight.shape
        numbers = torch.arange(shape[0])
        weight = bias.new_zeros(shape)
        if clusters is not None:
            numbers[len(clusters.weight) :] = -1
            weight = map_rows(clusters.weight.detach(), numbers)
        totals = [bias[start:end].logsumexp(0) for start, end in pairwise(edges[1:])]
        found |= {f"{CLUSTERS}.weight": weight, f"{CLUSTERS}.bias": torch.stack(totals)}
    return found


def map_bias(bias: Tensor, rows: Tensor) -> Tensor:
    """Return (V',) biases of other tokens: the new ones are together as likely as `<unk>`, which stood for them."""
    count = max(1, int((rows < 0).sum()))
    return torch.where(rows >= 0, bias[rows], bias[UNKNOWN] - math.log(count))
