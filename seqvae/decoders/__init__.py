"""Decoders: what has been said so far, and z -> features of what comes next, one module a tenant."""

from seqvae.decoders.base import Decoder, State
from seqvae.decoders.recurrent import RecurrentDecoder

__all__ = ["DECODERS", "Decoder", "RecurrentDecoder", "State"]

DECODERS: dict[str, type[Decoder]] = {"recurrent": RecurrentDecoder}
