"""Nearest neighbours: the sentences of a corpus whose posterior means are nearest to a point."""

import math
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from seqvae.data.text.corpus import TextSplit
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE

PART = 256  # sentences encoded at a time


@dataclass(frozen=True)
class Neighbour:
    """A sentence of a corpus, and the Euclidean distance of its posterior mean."""

    text: str
    distance: float


def find_nearest(model: SequenceVAE, z: Tensor, split: TextSplit, n: int) -> list[Neighbour]:
    """Find the n different sentences of a split whose posterior means are nearest to z (1, D), the nearest first.

    Sentences are encoded in parts, and n of all parts are kept, so that a corpus of any size will do.
    """
    device = next(model.parameters()).device
    order = torch.as_tensor(split.lengths).argsort(stable=True).tolist()
    found: dict[str, float] = {}
    with evaluating(model):
        for start in range(0, len(order), PART):
            rows = order[start : start + PART]
            distances = torch.cdist(z.to(device), model.encode(split.batch(rows).to(device)).mode)[0].tolist()
            limit = max(found.values()) if len(found) >= n else math.inf
            near = [(row, distance) for row, distance in zip(rows, distances, strict=True) if distance < limit]
            if not near:
                continue
            for text, (_, distance) in zip(split.texts([row for row, _ in near]), near, strict=True):
                found[text] = min(distance, found.get(text, math.inf))
            found = dict(sorted(found.items(), key=itemgetter(1))[:n])
    return [Neighbour(*pair) for pair in found.items()]
