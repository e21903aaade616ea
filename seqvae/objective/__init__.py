"""Terms of the objective: Trace -> (B,) nats per sentence, unless a term states another unit."""

from seqvae.objective.adversarial import Adversarial
from seqvae.objective.auxiliary import BagOfWords, MutualInformation
from seqvae.objective.discrepancy import MMD, Info, SlicedWasserstein, Wasserstein
from seqvae.objective.kl import KL, Controlled, MinimumRate
from seqvae.objective.term import Term, Zero
from seqvae.objective.total_correlation import TotalCorrelation

DIVERGENCES: dict[str, type[Term]] = {
    "kl": KL,
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
    "none": Zero,
    "bag-of-words": BagOfWords,
    "mutual-information": MutualInformation,
}
