"""Terms of the objective: Trace -> (B,) nats per sentence, where a term does not name another unit."""

from seqvae.terms.adversarial import Adversarial
from seqvae.terms.auxiliary import BagOfWords, MutualInformation
from seqvae.terms.controlled import Controlled, MinimumRate
from seqvae.terms.discrepancy import MMD, Info
from seqvae.terms.rate import KL, Capacity
from seqvae.terms.term import Nothing, Reconstruction, Term
from seqvae.terms.total_correlation import TotalCorrelation
from seqvae.terms.transport import SlicedWasserstein, Wasserstein

__all__ = [
    "AUXILIARIES",
    "DIVERGENCES",
    "KL",
    "MMD",
    "Adversarial",
    "BagOfWords",
    "Capacity",
    "Controlled",
    "Info",
    "MinimumRate",
    "MutualInformation",
    "Nothing",
    "Reconstruction",
    "SlicedWasserstein",
    "Term",
    "TotalCorrelation",
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
    "adversarial": Adversarial,
    "total-correlation": TotalCorrelation,
}

AUXILIARIES: dict[str, type[Term]] = {
    "none": Nothing,
    "bag-of-words": BagOfWords,
    "mutual-information": MutualInformation,
}
