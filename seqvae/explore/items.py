"""Sentences and series alike: reading them from a split, decoding points into them, showing them as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.data.batching import iterate_by_length
from seqvae.evaluation.likelihood import (
    MAX_TOKENS,
    draw_posterior,
    find_device,
    hash_sentences,
    log_likelihood,
)
from seqvae.explore.answers import Values
from seqvae.model.distributions import kl
from seqvae.model.modes import evaluating
from seqvae.reports.page.figures import shorten_item


@dataclass(frozen=True)
class Written:
    """What decodes at a point: its text, for a series its numbers by channel, and log p(x|z) in nats."""

    text: str
    values: Values
    log_prob: float


def read_items(split: Any) -> list[Any]:
    """Return all sentences of a split as they are in the source, or all series."""
    return list(split.texts() if hasattr(split, "texts") else split.series())


def read_labels(model: Any, split: Any) -> list[str] | None:
    """Return the label of each item, in a model conditioned on labels; else None."""
    found: list[str] | None = model.read_labels(split)
    return found


def show(item: Any) -> str:
    """Return a sentence, or a series drawn in a line of text."""
    return item if isinstance(item, str) else shorten_item(item)


def list_values(item: Any) -> Values:
    """Return the numbers of a series by channel; None for a sentence."""
    return None if isinstance(item, str) else np.asarray(item, float).reshape(len(item), -1).T.tolist()


@dataclass(frozen=True)
class Encoded:
    """N items as the encoder sees them, in the order of their split.

    Attributes:
        q: q(z|x), batch (N,), event (D,).
        bound: (N,) float64, -ELBO from one sample of z, nats.
    """

    q: Distribution
    bound: Tensor


def encode_split(model: Any, split: Any, seed: int = 0) -> Encoded:
    """Encode all items, and bound their -log p(x) as `seqvae.evaluation.likelihood.measure` does, in the same pass."""
    network, parts = model.model, []
    with evaluating(network):
        p = network.prior()
        for index, batch in iterate_by_length(split, max_tokens=MAX_TOKENS):
            batch = batch.to(find_device(network))
            h = network.encode_features(batch)
            q = network.posterior(h)
            z = draw_posterior(network, h, q, hash_sentences(batch).cpu(), 1, seed)[:, 0]
            bound = kl(q, p, z).double() - log_likelihood(network, batch, z)
            parts.append((torch.as_tensor(index), h, bound.cpu()))
        indices, features, bounds = (torch.cat(column) for column in zip(*parts, strict=True))
        order = indices.argsort()
        return Encoded(network.posterior(features[order]), bounds[order])


def write(model: Any, z: Tensor, labels: str | Sequence[str] | None = None) -> list[Written]:
    """Decode points (B, D) greedily."""
    found = model.generate(z, labels=labels)
    items = [one.text if hasattr(one, "text") else one.frames for one in found]
    return [Written(show(i), list_values(i), float(one.log_prob)) for i, one in zip(items, found, strict=True)]
