"""Observations: what x is made of. An observation embeds x and gives log p(x_t | features)."""

from seqvae.model.observations.base import Observation
from seqvae.model.observations.frames import Frames
from seqvae.model.observations.tokens import Tokens

OBSERVATIONS: dict[str, type[Observation]] = {"tokens": Tokens, "frames": Frames}
