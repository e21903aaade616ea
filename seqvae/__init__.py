"""Variational autoencoders of sentences: train on a text corpus, sample from the prior, interpolate, evaluate.

Axes, everywhere: S samples of z, B sentences, T tokens, D latent, H hidden, V vocabulary. Losses: nats per sentence.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqvae.auto import load
    from seqvae.errors import SeqVAEError
    from seqvae.sentence_encoder import SentenceEncoder
    from seqvae.series_vae import SeriesVAE
    from seqvae.text_vae import TextVAE

__version__ = "0.1.0"
__all__ = ["SentenceEncoder", "SeqVAEError", "SeriesVAE", "TextVAE", "__version__", "load"]

_PUBLIC = {
    "SentenceEncoder": "seqvae.sentence_encoder",
    "SeqVAEError": "seqvae.errors",
    "SeriesVAE": "seqvae.series_vae",
    "TextVAE": "seqvae.text_vae",
    "load": "seqvae.auto",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `seqvae --help` need not wait for torch."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'seqvae' has no attribute {name!r}")
