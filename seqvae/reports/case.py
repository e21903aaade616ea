"""A case: what is known of a trained model when its state is diagnosed, and the signs that the rules look for."""

import math
from dataclasses import dataclass

from seqvae.config import Config
from seqvae.evaluation.latent_space import LatentUsage
from seqvae.evaluation.scores import Scores

UNKNOWN = 0.1  # fraction of the tokens that may be <unk>
PERMUTED, PERMUTED_FRACTION = 0.5, 0.01  # nats, and fraction of the reconstruction, that another one's z costs at least
INFORMATION = 0.5  # nats of mutual information that are more than next to none
LOST, LOST_FRACTION = 1.0, 0.5  # nats, and fraction of the gain on training sentences, lost on held-out ones
BEATEN = 1.0  # nats that a simple model, such as one of 5-grams, is better by; half of that fraction is enough then
KL = 1.0  # nats of KL that are more than next to none
# Nats, and fraction of the KL, that refining q gains where the encoder lags. A KL weight below 1 in training leaves a
# gap too: 0.26 of the KL were seen at a weight of 0.25, and 0.11 at 0.5.
GAP, GAP_FRACTION = 1.0, 0.5
MIXTURE_GAIN = 1.0  # nats that -log p(x) falls by when half of the samples come from the prior
ENTROPY_FRACTION = 0.25  # by which the decoder's entropy is higher at samples of the prior than of q
INFORMATION_FRACTION = 0.05  # of -log p(x) that is information of z in a healthy model


@dataclass(frozen=True)
class Domain:
    """What the sequences of a model are called, and what their costs can be compared with.

    A log density depends on the unit of the data and may have either sign, so a fraction of it means nothing. Only
    differences of log densities are used, which have no unit: a fraction is one of what is gained over the baseline.

    Attributes:
        unit: one sequence.
        units: several.
        possessive: of one.
        baseline: the simplest model without a latent space.
        density: whether log p(x) is a log density, not the log of a probability.
    """

    unit: str
    units: str
    possessive: str
    baseline: str
    density: bool


TEXT = Domain("sentence", "sentences", "sentence's", "a unigram model", density=False)
SERIES = Domain("series", "series", "series'", "a Gaussian", density=True)
DOMAINS = {"tokens": TEXT, "frames": SERIES}  # by observation
UNITS = {domain.unit: domain for domain in DOMAINS.values()}


def find_domain(config: Config) -> Domain:
    """Return the domain of a model by its observation; one of another name counts as text."""
    return DOMAINS.get(config.model.observation["name"], TEXT)


def bound_information(scores: Scores | LatentUsage) -> tuple[float, float]:
    """Return the bounds of the mutual information of x and z, nats, each moved out by two standard errors."""
    lower = (scores.mutual_information_lower or 0.0) - 2 * (scores.mutual_information_lower_standard_error or 0.0)
    upper = (scores.mutual_information_upper or 0.0) + 2 * (scores.mutual_information_upper_standard_error or 0.0)
    return max(0.0, lower), upper


@dataclass(frozen=True)
class Case:
    """A trained model with its scores. All figures are nats per sentence (of series: per series).

    Attributes:
        scores: of held-out sentences.
        config: of the run.
        baseline: -log p(x) of a unigram model on the same sentences (of series: of a Gaussian independent of time);
            None if not known.
        train_baseline: the same on the training sentences of `scores.train_reconstruction`.
        stationary: whether the kept model is from after the end of the KL weight's schedule.
        folder: the model folder, for the command; its recipe.toml is used.
        simple: name and -log p(x) of the best model without a latent space that was fitted to the training sentences,
            such as one of 5-grams, on the same held-out sentences; None if not known.
    """

    scores: Scores
    config: Config
    baseline: float | None = None
    train_baseline: float | None = None
    stationary: bool = True
    folder: str | None = None
    simple: tuple[str, float] | None = None

    @property
    def domain(self) -> Domain:
        """What the sequences of the model are."""
        return find_domain(self.config)

    @property
    def latent(self) -> int:
        """Dimensions of z, D; 0 without a latent space."""
        return self.config.model.latent

    @property
    def information(self) -> tuple[float, float]:
        """Bounds of the mutual information, each moved out by two standard errors."""
        return bound_information(self.scores)

    @property
    def gain(self) -> float | None:
        """What the reconstruction gains over the baseline; None if that is not known."""
        return None if self.baseline is None else self.baseline - self.scores.reconstruction

    @property
    def train_gain(self) -> float | None:
        """What it gains on training sentences, scaled to the length of the held-out ones; None if not known."""
        reconstruction = self.scores.train_reconstruction
        if self.train_baseline is None or reconstruction is None:
            return None
        return self._length_ratio * (self.train_baseline - reconstruction)

    @property
    def gain_standard_error(self) -> float:
        """Standard error of the difference of the two gains."""
        s = self.scores
        train_error = self._length_ratio * (s.train_reconstruction_standard_error or 0.0)
        return math.hypot(s.reconstruction_standard_error or 0.0, train_error)

    @property
    def _length_ratio(self) -> float:
        """Mean length of the held-out sentences over that of the training sentences."""
        s = self.scores
        assert s.train_tokens and s.train_sentences  # measured together with train_reconstruction
        return s.tokens / s.sentences / (s.train_tokens / s.train_sentences)

    @property
    def has_fixed_kl(self) -> bool:
        """Whether the KL is a function of kappa alone, which neither its weight nor free bits change."""
        model = self.config.model
        return model.posterior["name"] == "vmf" and model.prior["name"] == "sphere"

    def find_comparable_cost(self, cost: float) -> float:
        """Return what fractions of a cost are taken of: the cost, or what a log density gains over the baseline.

        0 where a log density gains nothing, or the baseline is not known.
        """
        if not self.domain.density:
            return cost
        return 0.0 if self.baseline is None else max(0.0, self.baseline - cost)

    # -- signs ---------------------------------------------------------------------------------------------------------

    def has_unknown_words(self) -> bool:
        """Return whether too many of the tokens are <unk>."""
        s = self.scores
        return s.unknown is not None and s.unknown > 0 and s.unknown * s.tokens > UNKNOWN * (s.tokens - s.sentences)

    def is_overfitted(self) -> bool:
        """Return whether over half of the gain on training sentences, and over 1 nat, is lost on held-out ones.

        A quarter is enough where a simple model is better: it has seen no more sentences.
        """
        if self.gain is None or self.train_gain is None or self.train_gain < LOST:
            return False
        lost = self.train_gain - self.gain
        fraction = LOST_FRACTION / 2 if self.is_beaten() else LOST_FRACTION
        return lost >= max(LOST, fraction * self.train_gain, 2 * self.gain_standard_error)

    def is_beaten(self) -> bool:
        """Return whether a simple model is better."""
        return self.simple is not None and self.scores.nll - self.simple[1] >= BEATEN

    def is_under_trained(self) -> bool:
        """Return whether the baseline costs less than the reconstruction, or the KL weight was still rising."""
        return not self.stationary or (self.gain is not None and self.gain < 0)

    def ignores_z(self) -> bool:
        """Return whether the decoder does not use z."""
        return not uses_z(self.scores.permuted_nll_increase, self.find_comparable_cost(self.scores.reconstruction))

    def has_gap(self, least: float) -> bool:
        """Return whether refining q gains at least `least` nats, and two standard errors."""
        gap = self.scores.inference_gap
        return gap is not None and gap >= max(least, 2 * (self.scores.inference_gap_standard_error or 0.0))

    def costs_more_than_baseline(self) -> bool:
        """Return whether -log p(x) is above the baseline's."""
        return self.baseline is not None and self.scores.nll > self.baseline

    def misses_mass(self) -> bool:
        """Return whether q misses mass that samples of the prior find."""
        gain = self.scores.mixture_gain
        return gain is not None and gain >= max(MIXTURE_GAIN, 2 * (self.scores.mixture_gain_standard_error or 0.0))

    def is_unsure_at_prior(self) -> bool:
        """Return whether the decoder's entropy is clearly higher at samples of the prior than of q."""
        s = self.scores
        prior, posterior = s.decoder_entropy_prior, s.decoder_entropy_posterior
        if prior is None or posterior is None:
            return False
        return prior - posterior >= max(ENTROPY_FRACTION * posterior, 2 * (s.decoder_entropy_standard_error or 0.0))

    def is_partly_collapsed(self) -> bool:
        """Return whether few of the dimensions are active, or they carry little information."""
        cost = self.find_comparable_cost(self.scores.nll)
        return 2 * self.scores.active_units < self.latent or self.information[1] < INFORMATION_FRACTION * cost


def uses_z(rise: float, cost: float) -> bool:
    """Return whether a decoder uses z: whether the z of another sentence costs more than next to nothing.

    Args:
        rise: of the reconstruction with the z of another sentence, nats per sentence.
        cost: the reconstruction, nats per sentence; see `Case.find_comparable_cost`.
    """
    return rise >= max(PERMUTED, PERMUTED_FRACTION * cost)
