"""What a validation says, and which of them was the best."""

from dataclasses import dataclass

from seqvae.measures.vitals import Vitals


@dataclass(frozen=True)
class Validation:
    """The true bound (weight 1, raw KL) on validation sentences, in nats per sentence.

    Attributes:
        update: after how many updates.
        reconstruction, kl: its two parts.
        kept: whether the model of this moment is the best so far and stands in the folder.
        weight, learning_rate: of the last update.
        seconds: that the training has taken, validations included, over all resumed parts.
        tokens_per_second: of the training since the run began or went on, validations not counted.
        vitals: whether z is used; None for a model without z, and for a single validation sentence.
    """

    update: int
    reconstruction: float
    kl: float
    kept: bool
    weight: float
    learning_rate: float
    seconds: float
    tokens_per_second: float
    vitals: Vitals | None

    @property
    def elbo(self) -> float:
        """-(reconstruction + kl)."""
        return -(self.reconstruction + self.kl)


@dataclass
class Best:
    """The best validation so far.

    One counts only once the schedule has reached its full weight, the divergence its rate if it has one, and updates
    are made as they will be to the end. Before, the latest model is the best, since one that has not been asked to
    compress, or not yet to use z, would win with a bound that means little; after, none from a time at which the rate
    had left its target again. If the KL has a target, one that meets it is better than any that does not.

    Attributes:
        value: the true bound (for an autoencoder, which has none, -reconstruction), nats per sentence.
        settled: 0 before, 1 after, 2 where the KL meets its target too.
        kl: nats per sentence.
    """

    value: float = -float("inf")
    settled: int = 0
    update: int = 0
    waited: int = 0  # validations since then
    kl: float = float("nan")

    def offer(self, value: float, update: int, settled: int, kl: float = float("nan")) -> bool:
        """Whether this one is better; if so it takes the place."""
        if settled < self.settled or (settled == self.settled > 0 and value <= self.value):
            self.waited += 1
            return False
        self.value, self.settled, self.update, self.waited, self.kl = value, settled, update, 0, kl
        return True
