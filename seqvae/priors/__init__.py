"""Priors: p(z), one module a tenant."""

from seqvae.priors.base import Prior
from seqvae.priors.flow import Flow
from seqvae.priors.gaussian import LearntGaussian
from seqvae.priors.mixture import Mixture
from seqvae.priors.normal import StandardNormal
from seqvae.priors.sphere import Sphere
from seqvae.priors.vamp import Vamp

__all__ = ["PRIORS", "Flow", "LearntGaussian", "Mixture", "Prior", "Sphere", "StandardNormal", "Vamp"]

PRIORS: dict[str, type[Prior]] = {
    "normal": StandardNormal,
    "gaussian": LearntGaussian,
    "mixture": Mixture,
    "flow": Flow,
    "sphere": Sphere,
    "vamp": Vamp,
}
