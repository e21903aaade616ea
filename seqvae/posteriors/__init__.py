"""Posteriors: the encoder's vector -> q(z|x), one module a tenant."""

from seqvae.posteriors.base import Posterior
from seqvae.posteriors.batch_norm import BatchNormGaussian
from seqvae.posteriors.delta import DeltaGaussian
from seqvae.posteriors.deterministic import NarrowGaussian
from seqvae.posteriors.gaussian import DiagonalGaussian
from seqvae.posteriors.low_rank import LowRankGaussian
from seqvae.posteriors.von_mises_fisher import VMF

__all__ = [
    "POSTERIORS",
    "VMF",
    "BatchNormGaussian",
    "DeltaGaussian",
    "DiagonalGaussian",
    "LowRankGaussian",
    "NarrowGaussian",
    "Posterior",
]

POSTERIORS: dict[str, type[Posterior]] = {
    "gaussian": DiagonalGaussian,
    "batch-norm": BatchNormGaussian,
    "delta": DeltaGaussian,
    "deterministic": NarrowGaussian,
    "low-rank": LowRankGaussian,
    "vmf": VMF,
}
