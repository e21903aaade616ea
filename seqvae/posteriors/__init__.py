"""Posteriors: the encoder's vector -> q(z|x), one module a tenant."""

from seqvae.posteriors.base import Posterior
from seqvae.posteriors.batch_norm import BatchNormGaussian
from seqvae.posteriors.gaussian import DiagonalGaussian
from seqvae.posteriors.low_rank import LowRankGaussian

__all__ = ["POSTERIORS", "BatchNormGaussian", "DiagonalGaussian", "LowRankGaussian", "Posterior"]

POSTERIORS: dict[str, type[Posterior]] = {
    "gaussian": DiagonalGaussian,
    "batch-norm": BatchNormGaussian,
    "low-rank": LowRankGaussian,
}
