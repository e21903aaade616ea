"""The laws of parts, as functions: `check_prior(MyPrior)` raises an `AssertionError` that names the law it breaks.

Each function takes a class, an instance, or a function that makes one (a lambda, a `functools.partial`), which is
called with the sizes that it asks for by name, such as `latent`. A class or a function is checked at several sizes, an
instance at its own, and on a copy. Weights are checked as they are made and, moved at random, as training may leave
them.

Statistical laws have thresholds of five standard errors or more, hold for heavy tails, since no moment is assumed, and
draw from a fixed seed: a part passes always or never.

>>> from seqvae.model.priors import Mixture
>>> check_prior(Mixture)
"""

from seqvae.testing.distributions import check_posterior, check_prior
from seqvae.testing.networks import check_decoder, check_encoder
from seqvae.testing.training import check_noise, check_schedule, check_term

__all__ = [
    "check_decoder",
    "check_encoder",
    "check_noise",
    "check_posterior",
    "check_prior",
    "check_schedule",
    "check_term",
]
