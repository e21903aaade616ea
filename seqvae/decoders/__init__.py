"""Decoders: what has been said so far, and z -> features of what comes next, one module a tenant."""

from seqvae.decoders.base import Decoder, State
from seqvae.decoders.recurrent import RecurrentDecoder
from seqvae.decoders.transformer import TransformerDecoder

__all__ = ["DECODERS", "Decoder", "RecurrentDecoder", "State", "TransformerDecoder"]

DECODERS: dict[str, type[Decoder]] = {"recurrent": RecurrentDecoder, "transformer": TransformerDecoder}
