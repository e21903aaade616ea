"""Observations: what x is made of. An observation embeds it, and gives log p(x_t | features); one module a tenant."""

from seqvae.observations.base import Observation
from seqvae.observations.frames import Frames
from seqvae.observations.tokens import Tokens, embedding_table

__all__ = ["OBSERVATIONS", "Frames", "Observation", "Tokens", "embedding_table"]

OBSERVATIONS: dict[str, type[Observation]] = {"tokens": Tokens, "frames": Frames}
