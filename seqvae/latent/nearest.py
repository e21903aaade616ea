"""Nearest neighbours: the sentences of a corpus whose posterior means are nearest to a point."""

from dataclasses import dataclass

import torch
from torch import Tensor

from seqvae.data.text.corpus import TextSplit
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE

PART, SPARE = 256, 4  # sentences encoded at a time; places that are kept for each, since a corpus holds duplicates


@dataclass(frozen=True)
class Neighbour:
    """A sentence of a corpus, and the Euclidean distance of its posterior mean."""

    text: str
    distance: float


def find_nearest(model: SequenceVAE, z: Tensor, split: TextSplit, n: int) -> list[Neighbour]:
    """Find the n different sentences of a split whose posterior means are nearest to z (1, D), the nearest first.

    Sentences are encoded in parts, and no more than a few of each are kept, so that a corpus of any size will do.
    """
    device = next(model.parameters()).device
    order = torch.as_tensor(split.lengths).argsort(stable=True).tolist()
    places, distances = torch.zeros(0, dtype=torch.long), torch.zeros(0)
    with evaluating(model):
        for start in range(0, len(order), PART):
            rows = order[start : start + PART]
            far = torch.cdist(z.to(device), model.encode(split.batch(rows).to(device)).mode)[0].cpu()
            places, distances = torch.cat([places, torch.tensor(rows)]), torch.cat([distances, far])
            kept = distances.topk(min(SPARE * n, len(distances)), largest=False)
            places, distances = places[kept.indices], kept.values
    found: dict[str, float] = {}
    for text, distance in zip(split.texts(places.tolist()), distances.tolist(), strict=True):
        found.setdefault(text, distance)
    return [Neighbour(*pair) for pair in list(found.items())[:n]]
