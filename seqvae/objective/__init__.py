"""Terms of the objective: Trace -> (B,) nats per sentence, where a term does not name another unit."""

from seqvae.objective.adversarial import Adversarial
from seqvae.objective.auxiliary import BagOfWords, MutualInformation
from seqvae.objective.discrepancy import MMD, Info, SlicedWasserstein, Wasserstein
from seqvae.objective.kl import KL, Capacity, Controlled, MinimumRate
from seqvae.objective.term import Nothing, Term
from seqvae.objective.total_correlation import TotalCorrelation

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
