"""Sentences and series alike: reading them from a split, decoding points into them, showing them as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.data.batching import iterate_by_length
from seqvae.explore.answers import Values
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


def show(item: Any) -> str:
    """Return a sentence, or a series drawn in a line of text."""
    return item if isinstance(item, str) else shorten_item(item)


def list_values(item: Any) -> Values:
    """Return the numbers of a series by channel; None for a sentence."""
    return None if isinstance(item, str) else np.asarray(item, float).reshape(len(item), -1).T.tolist()


def encode_split(model: Any, split: Any) -> Distribution:
    """Return q(z|x) of all items, batch (N,) in the order of the split, event (D,)."""
    with evaluating(model.model):
        parts = [(torch.as_tensor(i), model.model.encode_features(b)) for i, b in iterate_by_length(split, 256)]
        order = torch.cat([i for i, _ in parts]).argsort()
        found: Distribution = model.model.posterior(torch.cat([h for _, h in parts])[order])
    return found


def write(model: Any, z: Tensor, labels: str | Sequence[str] | None = None) -> list[Written]:
    """Decode points (B, D) greedily."""
    found = model.generate(z, labels=labels)
    items = [one.text if hasattr(one, "text") else one.frames for one in found]
    return [Written(show(i), list_values(i), float(one.log_prob)) for i, one in zip(items, found, strict=True)]
