"""The doctor: names the state of a trained model from its scores, says why, and what to try.

Few rules, taken in turn; the first that holds names the state. All figures are nats per sentence of held-out text.

| state | rule |
|---|---|
| unknown words | over a tenth of the tokens, ends not counted, are <unk>, behind which all words are free |
| no latent | the model has no z: a language model |
| overfitted | over half of what the model gains over a unigram model on training sentences is lost on held-out ones |
| under-trained | the reconstruction costs more than a unigram model, or the KL weight was still rising |
| lagging encoder | refining q by gradient gains the KL and over 1 nat more, which no decoder deaf to z could give |
| decoder ignores z | the decoder does not hear z, and I(x; z) is half a nat or more: z does tell sentences apart |
| collapsed | the decoder does not hear z, z tells next to nothing, and the KL is below 1 |
| KL without information | the decoder does not hear z, z tells next to nothing, and the KL is 1 or more |
| lagging encoder | refining q gains over 1 nat and over half of the KL |
| over-rated with holes | -log p(x) is above a unigram model's; or it falls by over 1 nat when half of the draws of z \
come from the prior; or the decoder is over a quarter less sure of its words at draws of the prior than of q |
| partly collapsed | fewer than half of the dimensions are active, or I(x; z) is under a twentieth of -log p(x) |
| healthy | none of these |

Gains and I(x; z) count beyond two standard errors. The decoder does not hear z where giving each sentence another one's
z costs less than half a nat or 1 % of the reconstruction, whichever is more.

A log density of a series depends on the unit of the data and may have either sign, so a fraction of it means nothing.
Of series only differences of log densities are used, which have no unit: where the rules above take a fraction of a
cost, it is one of what the model gains over the Gaussian that stands in for the unigram model (0 if that is not known).
"""

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from seqvae.config import met, miss
from seqvae.evaluation.latent_space import Vitals
from seqvae.evaluation.scores import Scores, of_series
from seqvae.reports.remedies import Case, Remedy, attend, fill, generalize, hurry, inform, listen, nothing, read, train

SILENT, SILENT_SHARE = 0.5, 0.01  # nats, and share of the reconstruction, that another one's z costs at least
UNREAD = 0.1  # fraction of the tokens that are <unk> in text that was not read
INFORMATION = 0.5  # nats of mutual information that are more than next to nothing
LOST, LOST_FRACTION = 1.0, 0.5  # nats, and fraction of the gain on training sentences, that held-out ones lack
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


def heard(rise: float, cost: float) -> bool:
    """Say whether the decoder hears z: whether another one's z costs more than next to nothing.

    Args:
        rise: of the reconstruction with another one's z, nats per sentence.
        cost: the reconstruction, nats per sentence; of series what `Case.comparable` makes of it.
    """
    return rise >= max(SILENT, SILENT_SHARE * cost)


def warning(
    *,
    reconstruction: float,
    kl: float,
    rise: float,
    weight: float,
    end: float,
    information: float = 0.0,
    series: bool = False,
) -> str | None:
    """Say what to tell the user while training, once the weight is past half of its end; None if all is well.

    Args:
        reconstruction: of the validation sentences, nats per sentence.
        kl: likewise.
        rise: of the reconstruction with another one's z.
        weight: of the KL now.
        end: of its schedule.
        information: nats that z tells of a sentence at least, two standard errors allowed for.
        series: whether these are series, whose reconstruction depends on the unit of the data.
    """
    if heard(rise, 0.0 if series else reconstruction) or weight < end / 2:
        return None
    state = (
        "decoder ignores z" if information >= INFORMATION else "collapsed" if kl < SPENT else "KL without information"
    )
    costs = f"{rise:.2f} nats" if series else f"{rise:.2f} of {reconstruction:.1f} nats"
    line = f"{state}: KL {kl:.2f}, but another sentence's z costs only {costs}"
    return of_series(line) if series else line


def diagnose(case: Case) -> Diagnosis:
    """The first state whose rule holds.

    >>> from seqvae.config import Config
    >>> from seqvae.evaluation.scores import restored
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


def _unknown_words(case: Case) -> list[str]:
    unknown, tokens, ends = case.scores.unknown, case.scores.tokens, case.scores.sentences
    if not unknown or unknown * tokens <= UNREAD * (tokens - ends):
        return []
    return [
        f"{unknown * tokens / (tokens - ends):.0%} of the tokens are <unk>",
        "it costs what one token costs and the words behind it are free, so that all scores look better than they are",
    ]


def _no_latent(case: Case) -> list[str]:
    return [] if case.config.model.latent else ["a language model: there is no z to be used or ignored"]


def _overfitted(case: Case) -> list[str]:
    s = case.scores
    if case.unigram is None or case.train_unigram is None or s.train_reconstruction is None:
        return []
    assert s.train_tokens and s.train_sentences  # measured with it
    longer = s.tokens / s.sentences / (s.train_tokens / s.train_sentences)
    there, here = longer * (case.train_unigram - s.train_reconstruction), case.unigram - s.reconstruction
    noise = math.hypot(s.reconstruction_standard_error or 0.0, longer * (s.train_reconstruction_standard_error or 0.0))
    if there - here < max(LOST, LOST_FRACTION * there, 2 * noise) or there < LOST:
        return []
    gains = f"over {case.floor} it gains {there:.1f} nats on training sentences, {here:.1f} on held-out ones"
    costs = (
        f"a training sentence costs {s.train_reconstruction:.1f} nats with its z, a held-out one {s.reconstruction:.1f}"
    )
    return [gains] if case.series else [gains, costs]


def _under_trained(case: Case) -> list[str]:
    evidence = []
    if case.unigram is not None and case.scores.reconstruction > case.unigram:
        evidence.append(f"even with z, a sentence costs {_above(case, case.scores.reconstruction, case.unigram)}")
    if not case.settled:
        evidence.append("the training ended before the KL weight had reached its end")
    return evidence


def _deaf(case: Case) -> bool:
    s = case.scores
    return not heard(s.permuted_nll_increase, case.comparable(s.reconstruction))


def _ignored(case: Case) -> list[str]:
    if not _deaf(case) or bracket(case.scores)[0] < INFORMATION:
        return []
    return [_permuted(case), _information(case.scores), _rate(case.scores)]


def _collapsed(case: Case) -> list[str]:
    return [_rate(case.scores), _permuted(case)] if _deaf(case) and case.scores.kl < SPENT else []


def _variance_only(case: Case) -> list[str]:
    return [_rate(case.scores), _information(case.scores), _permuted(case)] if _deaf(case) else []


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
    return [f"-log p(x) is {_above(case, case.scores.nll, case.unigram)}"]


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
    cost = case.comparable(s.nll)
    if 2 * s.active_units >= latent and bracket(s)[1] >= INFORMED * cost:
        return []
    whole = f", of {cost:.1f} nats" + (f" gained over {case.floor}" if case.series else "") if cost else ""
    return [f"{s.active_units} of {latent} dimensions active", _information(s) + whole, _permuted(case)]


def _healthy(case: Case) -> list[str]:
    s = case.scores
    return [f"{s.active_units} of {case.config.model.latent} dimensions active", _rate(s), _permuted(case)]


# -- figures in words --------------------------------------------------------------------------------------------------


def bracket(s: Scores | Vitals) -> tuple[float, float]:
    """What z tells of a sentence, nats: the ends of the mutual information, each moved out by two standard errors."""
    lower = (s.mutual_information_lower or 0.0) - 2 * (s.mutual_information_lower_standard_error or 0.0)
    upper = (s.mutual_information_upper or 0.0) + 2 * (s.mutual_information_upper_standard_error or 0.0)
    return max(0.0, lower), upper


def _information(s: Scores) -> str:
    return "mutual information {:.2f} to {:.2f} nats (within two standard errors)".format(*bracket(s))


def _above(case: Case, cost: float, baseline: float) -> str:
    """How far a cost is above the baseline, as a difference; of text with both figures, which have no unit."""
    figures = "" if case.series else f" ({cost:.1f} and {baseline:.1f})"
    return f"{cost - baseline:.1f} nats more than {case.floor}{figures}"


def _off_target(case: Case) -> list[str]:
    """Of any state: that the KL is not what was asked for."""
    target = case.config.held_kl
    return [] if target is None or met(case.scores.kl, target) else [miss(case.scores.kl, target)]


def _rate(s: Scores) -> str:
    return f"KL {s.kl:.2f} nats"


def _permuted(case: Case) -> str:
    s = case.scores
    whole = "" if case.series else f" of {s.reconstruction:.1f}"
    return f"another sentence's z costs {s.permuted_nll_increase:.2f}{whole} nats"


STATES: list[tuple[str, str, Callable[[Case], list[str]], Callable[[Case], list[Remedy]]]] = [
    (
        "unknown words",
        "Too much of the text is <unk> for the scores to be of the text.",
        _unknown_words,
        read,
    ),
    ("no latent", "The model is a language model.", _no_latent, nothing),
    (
        "overfitted",
        "The model has memorised its training sentences and does worse on others; more sentences would help most.",
        _overfitted,
        generalize,
    ),
    ("under-trained", "The model has not learnt enough for the other signs to mean much.", _under_trained, train),
    ("lagging encoder", "The decoder could use z, but q hardly differs from the prior.", _silent_encoder, hurry),
    (
        "decoder ignores z",
        "z tells sentences apart, but the decoder makes nothing of it and is a language model.",
        _ignored,
        attend,
    ),
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
