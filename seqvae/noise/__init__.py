"""Noise: Batch -> Batch, only while training. It never touches targets, the start, the end or padding."""

from seqvae.noise.base import Noise, is_word
from seqvae.noise.denoising import Denoising
from seqvae.noise.word_dropout import WordDropout

__all__ = ["NOISES", "Denoising", "Noise", "WordDropout", "is_word"]

NOISES: dict[str, type[Noise]] = {"word-dropout": WordDropout, "denoising": Denoising}
