"""What was measured of each sentence of a set: the table that scores are means of."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """Per sentence, N rows in the order of the corpus.

    Attributes:
        index: (N,) int64, the place in the corpus.
        key: (N,) int64, what its draws are keyed by (see `seqvae.measures.draws.sentence_keys`).
        tokens: (N,) int64, how many targets were scored.
        ended: (N,) bool, whether an end of sentence was among them.
        reconstruction: (N,) float64, -log p(x|z), nats, mean over the draws.
        kl: (N,) float64, nats.
        kl_dimensions: (N, D) float64, that of each latent dimension; None where it does not factorize.
        samples: (N,) int64, the draws of one importance-weighted pass.
        passes: (N, R) float64, -log p(x) by importance weighting, nats, one column for each seed.
        effective: (N,) float64, the effective sample size of the first pass, from 1 to `samples`.
        first: (N,) float64, -log p(x|z) of the first draw.
        z: (N, D), the first draw.
        mean: (N, D), the posterior mean.
    """

    index: Tensor
    key: Tensor
    tokens: Tensor
    ended: Tensor
    reconstruction: Tensor
    kl: Tensor
    kl_dimensions: Tensor | None
    samples: Tensor
    passes: Tensor
    effective: Tensor
    first: Tensor
    z: Tensor
    mean: Tensor

    @cached_property
    def nll(self) -> Tensor:
        """(N,) float64, -log p(x), nats: the mean over the passes."""
        return self.passes.mean(1)

    @classmethod
    def join(cls, parts: Sequence["Measured"]) -> "Measured":
        """All parts as one, in the order of the corpus."""
        order = torch.cat([part.index for part in parts]).argsort()
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        joined: dict[str, Any] = {
            name: None if column[0] is None else torch.cat(column)[order] for name, column in columns.items()
        }
        return cls(**joined)
