"""The doctor: names the state of a trained model from its scores, says why, and what to try.

Few rules, taken in turn; the first that holds names the state. All figures are nats per sentence of held-out text.

| state | rule |
|---|---|
| no latent | the model has no z: a language model |
| under-trained | the reconstruction costs more than a unigram model, or the KL weight was still rising |
| lagging encoder | refining q by gradient gains the KL and over 1 nat more, which no decoder deaf to z could give |
| collapsed | the decoder does not hear z, and the KL is below 1 |
| KL without information | the decoder does not hear z, and the KL is 1 or more |
| lagging encoder | refining q gains over 1 nat and over half of the KL |
| over-rated with holes | -log p(x) is above a unigram model's; or it falls by over 1 nat when half of the draws of z \
come from the prior; or the decoder is over a quarter less sure of its words at draws of the prior than of q |
| partly collapsed | fewer than half of the dimensions are active, or I(x; z) is under a twentieth of -log p(x) |
| healthy | none of these |

Gains count beyond two standard errors. The decoder does not hear z where giving each sentence another one's z costs
less than half a nat or 1 % of the reconstruction, whichever is more.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from seqvae.measures.remedies import Case, Remedy, fill, hurry, inform, listen, nothing, train
from seqvae.measures.scores import Scores, of_series
from seqvae.targets import met, miss

SILENT, SILENT_SHARE = 0.5, 0.01  # nats, and share of the reconstruction, that another one's z costs at least
SPENT = 1.0  # nats of KL that are more than nothing
# Nats, and share of the KL, that refining q gains in a lagging encoder. A KL weight below 1 in training leaves a gap
# too: we have seen 0.26 of the KL at a weight of 0.25, and 0.11 at 0.5.
GAP, GAP_SHARE = 1.0, 0.5
MISSED = 1.0  # nats that -log p(x) falls by when half of the draws come from the prior
UNSURE = 0.25  # how much larger the decoder's entropy is at draws of the prior than at draws of q
INFORMED = 0.05  # share of -log p(x) that z tells of a sentence in a healthy model


@dataclass(frozen=True)
class Diagnosis:
    """What a model suffers from.

    Attributes:
        state: one of `STATES`.
        meaning: what that is, in a sentence.
        evidence: the figures that say so.
        advice: what is likeliest to help, in words; at most two pieces.
        command: the same, to be pasted; empty if there is nothing to cure.
    """

    state: str
    meaning: str
    evidence: list[str]
    advice: list[str] = field(default_factory=list)
    command: str = ""

    def __str__(self) -> str:
        """One line."""
        return f"{self.state}: {'; '.join(self.evidence)}"


def heard(reconstruction: float, rise: float) -> bool:
    """Whether the decoder hears z: whether another one's z costs more than next to nothing (nats per sentence)."""
    return rise >= max(SILENT, SILENT_SHARE * reconstruction)


def warning(*, reconstruction: float, kl: float, rise: float, weight: float, end: float) -> str | None:
    """What to tell the user while training, once the weight is past half of its end; None if all is well."""
    if heard(reconstruction, rise) or weight < end / 2:
        return None
    state = "collapsed" if kl < SPENT else "KL without information"
    return f"{state}: KL {kl:.2f}, but another sentence's z costs only {rise:.2f} of {reconstruction:.1f} nats"


def diagnose(case: Case) -> Diagnosis:
    """The first state whose rule holds.

    >>> from seqvae.config import Config
    >>> from seqvae.measures.scores import restored
    >>> figures = {"reconstruction": 90.0, "kl": 0.02, "nll": 90.0, "active_units": 0, "permuted_nll_increase": 0.01}
    >>> diagnose(Case(restored(figures), Config())).state
    'collapsed'
    """
    for state, meaning, rule, remedies in STATES:
        evidence = rule(case)
        if evidence:
            evidence = [*evidence, *_off_target(case)]
            chosen = remedies(case)[:2]
            if case.series:
                meaning, evidence = of_series(meaning), [of_series(line) for line in evidence]
            return Diagnosis(state, meaning, evidence, [why for _, why in chosen], _command(case, chosen))
    raise AssertionError("the last rule holds always")


def _command(case: Case, remedies: list[Remedy]) -> str:
    if not remedies:
        return ""
    recipe = f" --config {shlex.quote(case.folder + '/recipe.toml')}" if case.folder else ""
    return f"seqvae train {shlex.quote(case.config.corpus)}{recipe} {' '.join(options for options, _ in remedies)}"


# -- rules: the evidence, or nothing where the rule does not hold ------------------------------------------------------


def _no_latent(case: Case) -> list[str]:
    return [] if case.config.model.latent else ["a language model: there is no z to be used or ignored"]


def _under_trained(case: Case) -> list[str]:
    evidence = []
    if case.unigram is not None and case.scores.reconstruction > case.unigram:
        figures = f"{case.scores.reconstruction:.1f} nats even with z, {case.floor} {case.unigram:.1f}"
        evidence.append(f"a sentence costs {figures}")
    if not case.settled:
        evidence.append("the training ended before the KL weight had reached its end")
    return evidence


def _collapsed(case: Case) -> list[str]:
    s = case.scores
    return [_rate(s), _permuted(s)] if not heard(s.reconstruction, s.permuted_nll_increase) and s.kl < SPENT else []


def _variance_only(case: Case) -> list[str]:
    s = case.scores
    if heard(s.reconstruction, s.permuted_nll_increase):
        return []
    return [_rate(s), f"mutual information at most {s.mutual_information_upper:.2f}", _permuted(s)]


def _silent_encoder(case: Case) -> list[str]:
    """q is so near to the prior that the decoder seems deaf, but it is the encoder that is dumb."""
    return _gap(case, case.scores.kl + GAP)


def _lagging(case: Case) -> list[str]:
    return _gap(case, max(GAP, GAP_SHARE * case.scores.kl))


def _gap(case: Case, most: float) -> list[str]:
    s, gap = case.scores, case.scores.inference_gap
    if gap is None or gap < most or gap < 2 * (s.inference_gap_standard_error or 0.0):
        return []
    return [f"refining q of each sentence raises the ELBO by {gap:.1f} nats", _rate(s)]


def _holes(case: Case) -> list[str]:
    evidence = [*_paid_for_nothing(case), *_missed(case.scores), *_unsure(case.scores)]
    return [*evidence, _rate(case.scores)] if evidence else []


def _paid_for_nothing(case: Case) -> list[str]:
    if case.unigram is None or case.scores.nll <= case.unigram:
        return []
    return [f"-log p(x) is {case.scores.nll:.1f} nats, {case.floor}'s {case.unigram:.1f}"]


def _missed(s: Scores) -> list[str]:
    gain = s.mixture_gain
    if gain is None or gain < max(MISSED, 2 * (s.mixture_gain_standard_error or 0.0)):
        return []
    return [f"with half of the draws of z from the prior, -log p(x) is {gain:.1f} nats lower"]


def _unsure(s: Scores) -> list[str]:
    at_prior, at_posterior = s.decoder_entropy_prior, s.decoder_entropy_posterior
    if at_prior is None or at_posterior is None:
        return []
    more = at_prior - at_posterior
    if more < max(UNSURE * at_posterior, 2 * (s.decoder_entropy_standard_error or 0.0)):
        return []
    return [f"the decoder's entropy is {at_prior:.2f} nats a token at prior draws, {at_posterior:.2f} at draws of q"]


def _partly(case: Case) -> list[str]:
    s, latent = case.scores, case.config.model.latent
    if 2 * s.active_units >= latent and s.mutual_information_upper >= INFORMED * s.nll:
        return []
    told = f"mutual information at most {s.mutual_information_upper:.2f} of {s.nll:.1f} nats"
    return [f"{s.active_units} of {latent} dimensions active", told, _permuted(s)]


def _healthy(case: Case) -> list[str]:
    s = case.scores
    return [f"{s.active_units} of {case.config.model.latent} dimensions active", _rate(s), _permuted(s)]


def _off_target(case: Case) -> list[str]:
    """Of any state: that the KL is not what was asked for."""
    target = case.config.held_kl
    return [] if target is None or met(case.scores.kl, target) else [miss(case.scores.kl, target)]


def _rate(s: Scores) -> str:
    return f"KL {s.kl:.2f} nats"


def _permuted(s: Scores) -> str:
    return f"another sentence's z costs {s.permuted_nll_increase:.2f} of {s.reconstruction:.1f} nats"


STATES: list[tuple[str, str, Callable[[Case], list[str]], Callable[[Case], list[Remedy]]]] = [
    ("no latent", "The model is a language model.", _no_latent, nothing),
    ("under-trained", "The model has not learnt enough for the other signs to mean much.", _under_trained, train),
    ("lagging encoder", "The decoder could use z, but q hardly differs from the prior.", _silent_encoder, hurry),
    (
        "collapsed",
        "The posterior is the prior: z says nothing, and the decoder is a language model.",
        _collapsed,
        listen,
    ),
    (
        "KL without information",
        "q differs from the prior, in its variance say, but z does not tell sentences apart.",
        _variance_only,
        inform,
    ),
    ("lagging encoder", "The decoder could use z, but the encoder does not find the z that fits.", _lagging, hurry),
    (
        "over-rated with holes",
        "z carries more than the prior can cover: sentences come back, but draws of the prior fall between them.",
        _holes,
        fill,
    ),
    ("partly collapsed", "z is used, but little of it, or for little.", _partly, listen),
    ("healthy", "z is used, by encoder and decoder alike.", _healthy, nothing),
]
