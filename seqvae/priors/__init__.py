"""Priors: p(z), one module a tenant."""

from seqvae.priors.base import Prior
from seqvae.priors.gaussian import LearntGaussian
from seqvae.priors.mixture import Mixture
from seqvae.priors.normal import StandardNormal
from seqvae.priors.sphere import Sphere

__all__ = ["PRIORS", "LearntGaussian", "Mixture", "Prior", "Sphere", "StandardNormal"]

PRIORS: dict[str, type[Prior]] = {
    "normal": StandardNormal,
    "gaussian": LearntGaussian,
    "mixture": Mixture,
    "sphere": Sphere,
}
