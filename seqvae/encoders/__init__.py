"""Encoders: a batch of sentences -> one vector each, one module a tenant."""

from seqvae.encoders.base import Encoder, NoEncoder
from seqvae.encoders.recurrent import RecurrentEncoder
from seqvae.encoders.transformer import TransformerEncoder

__all__ = ["ENCODERS", "Encoder", "NoEncoder", "RecurrentEncoder", "TransformerEncoder"]

ENCODERS: dict[str, type[Encoder]] = {"recurrent": RecurrentEncoder, "transformer": TransformerEncoder}
