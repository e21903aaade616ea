"""Terms of the objective: Trace -> (B,) nats per sentence, where a term does not name another unit."""

from seqvae.terms.controlled import Controlled, MinimumRate
from seqvae.terms.discrepancy import MMD, Info
from seqvae.terms.rate import KL, Capacity
from seqvae.terms.term import Nothing, Reconstruction, Term
from seqvae.terms.transport import SlicedWasserstein, Wasserstein

__all__ = [
    "AUXILIARIES",
    "DIVERGENCES",
    "KL",
    "MMD",
    "Capacity",
    "Controlled",
    "Info",
    "MinimumRate",
    "Nothing",
    "Reconstruction",
    "SlicedWasserstein",
    "Term",
    "Wasserstein",
]

DIVERGENCES: dict[str, type[Term]] = {
    "kl": KL,
    "capacity": Capacity,
    "controlled": Controlled,
    "minimum-rate": MinimumRate,
    "mmd": MMD,
    "info": Info,
    "sliced-wasserstein": SlicedWasserstein,
    "wasserstein": Wasserstein,
}

AUXILIARIES: dict[str, type[Term]] = {
    "none": Nothing,
}
