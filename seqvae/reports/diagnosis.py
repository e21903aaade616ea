"""Diagnosis: the state of a trained model from its scores, the evidence for it, and what to try.

A few rules, taken in turn; the first that holds gives the state. All figures are nats per sentence of held-out text.

| state | rule |
|---|---|
| unknown words | over a tenth of the tokens, EOS not counted, are <unk>, whose words cost nothing |
| no latent | the model has no z: a language model |
| overfitted | over half of the gain over a unigram model on training sentences is lost on held-out ones; or over a \
quarter, and a 5-gram model is better by over 1 nat |
| under-trained | the reconstruction costs more than a unigram model, or the KL weight was still rising |
| lagging encoder | refining q by gradient gains the KL and over 1 nat more: the decoder does use z |
| decoder ignores z | the decoder does not use z, but I(x; z) is at least half a nat: z does differ between sentences |
| collapsed | the decoder does not use z, which carries next to no information, and the KL is below 1 |
| KL without information | the decoder does not use z, which carries next to no information, and the KL is 1 or more |
| lagging encoder | refining q gains over 1 nat and over half of the KL |
| prior holes | -log p(x) is above a unigram model's; or it falls by over 1 nat when half of the samples of z \
come from the prior; or the entropy of the decoder is over a quarter higher at samples of the prior than of q |
| partly collapsed | fewer than half of the dimensions are active, or I(x; z) is under a twentieth of -log p(x) |
| healthy | none of these |

Gains and I(x; z) count beyond two standard errors. The decoder does not use z where giving each sentence the z of
another costs less than half a nat or 1 % of the reconstruction, whichever is more.

Of series, whose log densities have a unit, every fraction of a cost is one of what the model gains over a Gaussian,
which takes the place of the unigram model (see `seqvae.reports.case.Domain`).

Sources of the signs: He et al., Lagging Inference Networks and Posterior Collapse, 2019, arXiv:1901.05534 (the lag,
active units, mutual information); Rezende & Viola, Taming VAEs, 2018, arXiv:1810.00597 (holes in the prior).
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from seqvae.config import describe_miss, meets_target
from seqvae.reports.case import GAP, GAP_FRACTION, INFORMATION, KL, TEXT, UNITS, Case, bound_information, uses_z
from seqvae.reports.remedies import (
    Remedy,
    change_tokenizer,
    cover_prior,
    encourage_use,
    enforce_use,
    make_informative,
    regularize,
    speed_up_encoder,
    suggest_nothing,
    train_longer,
)

__all__ = ["STATES", "Case", "Diagnosis", "bound_information", "diagnose", "find_warning"]


@dataclass(frozen=True)
class Diagnosis:
    """The state of a model.

    Attributes:
        state: the name of one of `STATES`.
        meaning: the state in a sentence.
        evidence: the figures for it.
        advice: what is likeliest to help, in words; at most two options.
        command: the same, to be pasted; empty where nothing has to change.
    """

    state: str
    meaning: str
    evidence: list[str]
    advice: list[str] = field(default_factory=list)
    command: str = ""

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.state}: {'; '.join(self.evidence)}"


class State(NamedTuple):
    """A state: its name, its meaning, the rule that it follows from, its evidence, and what to try."""

    name: str
    meaning: str  # with the words of a `Domain`
    rule: Callable[[Case], bool]
    evidence: tuple[str | Callable[[Case], str], ...]  # lines; "" does not apply
    suggest: Callable[[Case], list[Remedy]]


def diagnose(case: Case) -> Diagnosis:
    """Find the first state whose rule holds.

    >>> from seqvae.config import Config
    >>> from seqvae.evaluation.scores import read_scores
    >>> figures = {"reconstruction": 90.0, "kl": 0.02, "nll": 90.0, "active_units": 0, "permuted_nll_increase": 0.01}
    >>> diagnose(Case(read_scores(figures), Config())).state
    'collapsed'
    """
    state = next(state for state in STATES if state.rule(case))
    evidence = (*state.evidence, describe_missed_target)
    lines = [line if isinstance(line, str) else line(case) for line in evidence]
    remedies = state.suggest(case)[:2]
    return Diagnosis(
        state.name,
        state.meaning.format(**vars(case.domain)),
        [line for line in lines if line],
        [reason for _, reason in remedies],
        _write_command(case, remedies),
    )


def _write_command(case: Case, remedies: list[Remedy]) -> str:
    if not remedies:
        return ""
    recipe = f" --config {shlex.quote(case.folder + '/recipe.toml')}" if case.folder else ""
    return f"seqvae train {shlex.quote(case.config.corpus)}{recipe} {' '.join(options for options, _ in remedies)}"


def find_warning(
    *,
    reconstruction: float,
    kl: float,
    rise: float,
    weight: float,
    end: float,
    information: float = 0.0,
    unit: str = "sentence",
) -> str | None:
    """Return a warning for the user while training, once the KL weight is past half of its end; None if all is well.

    Args:
        reconstruction: of the validation sentences, nats per sentence.
        kl: nats per sentence.
        rise: of the reconstruction with the z of another sentence.
        weight: of the KL now.
        end: of its schedule.
        information: lower bound of I(x; z), nats, less two standard errors.
        unit: of the sequences, as the model class names it.
    """
    domain = UNITS.get(unit, TEXT)
    if uses_z(rise, 0.0 if domain.density else reconstruction) or weight < end / 2:
        return None
    state = "decoder ignores z" if information >= INFORMATION else "collapsed" if kl < KL else "KL without information"
    own = "" if domain.density else f" more than its own ({reconstruction:.1f})"
    return f"{state}: KL {kl:.2f}, but another {domain.possessive} z costs only {rise:.2f} nats{own}"


# -- evidence: a line each, "" where it does not apply -----------------------------------------------------------------


def describe_unknown(case: Case) -> str:
    """Give the fraction of <unk>."""
    s = case.scores
    return f"{(s.unknown or 0.0) * s.tokens / max(1, s.tokens - s.sentences):.0%} of the tokens are <unk>"


def describe_gains(case: Case) -> str:
    """Compare the gains over the baseline on training and held-out sentences."""
    where = f"{case.train_gain:.1f} nats on training {case.domain.units}, {case.gain:.1f} on held-out ones"
    return f"over {case.domain.baseline} it gains {where}"


def describe_memory(case: Case) -> str:
    """Compare the costs of training and held-out sentences; of log densities only differences are comparable."""
    s, unit = case.scores, case.domain.unit
    if case.domain.density:
        return ""
    train = f"a training {unit} costs {s.train_reconstruction:.1f} nats with its z"
    return f"{train}, a held-out one {s.reconstruction:.1f}"


def describe_simple(case: Case) -> str:
    """Compare -log p(x) with that of a better simple model."""
    if case.simple is None or not case.is_beaten():
        return ""
    name, nll = case.simple
    figures = "" if case.domain.density else f" ({nll:.1f} and {case.scores.nll:.1f})"
    return f"the {name} model is better by {case.scores.nll - nll:.1f} nats{figures}"


def describe_reconstruction(case: Case) -> str:
    """Give what the reconstruction costs more than the baseline."""
    if case.gain is None or case.gain >= 0:
        return ""
    return f"even with z, a {case.domain.unit} costs {_compare_to_baseline(case, case.scores.reconstruction)}"


def describe_schedule(case: Case) -> str:
    """State that the KL weight was still rising."""
    return "" if case.stationary else "the training ended before the KL weight had reached its end"


def describe_gap(case: Case) -> str:
    """Give the gain of refining q."""
    return f"refining q of each {case.domain.unit} raises the ELBO by {case.scores.inference_gap:.1f} nats"


def describe_kl(case: Case) -> str:
    """Give the KL."""
    return f"KL {case.scores.kl:.2f} nats"


def describe_permutation(case: Case) -> str:
    """Give the cost of the z of another sentence."""
    s = case.scores
    own = "" if case.domain.density else f" more than its own ({s.reconstruction:.1f})"
    return f"another {case.domain.possessive} z costs {s.permuted_nll_increase:.2f} nats{own}"


def describe_information(case: Case) -> str:
    """Give the mutual information."""
    return "mutual information {:.2f} to {:.2f} nats (within two standard errors)".format(*case.information)


def describe_information_fraction(case: Case) -> str:
    """Give the mutual information, and the cost that it is a fraction of."""
    cost = case.find_comparable_cost(case.scores.nll)
    gained = f" gained over {case.domain.baseline}" if case.domain.density else ""
    return describe_information(case) + (f", of {cost:.1f} nats{gained}" if cost else "")


def describe_nll(case: Case) -> str:
    """Give what -log p(x) is above the baseline's."""
    return f"-log p(x) is {_compare_to_baseline(case, case.scores.nll)}" if case.costs_more_than_baseline() else ""


def describe_missed_mass(case: Case) -> str:
    """Give what samples of the prior gain."""
    lower = f"-log p(x) is {case.scores.mixture_gain:.1f} nats lower" if case.misses_mass() else ""
    return lower and f"with half of the samples of z from the prior, {lower}"


def describe_entropy(case: Case) -> str:
    """Compare the decoder's entropies."""
    if not case.is_unsure_at_prior():
        return ""
    prior, posterior = case.scores.decoder_entropy_prior, case.scores.decoder_entropy_posterior
    return f"the decoder's entropy is {prior:.2f} nats a token at samples of the prior, {posterior:.2f} at samples of q"


def describe_units(case: Case) -> str:
    """Give the active units."""
    return f"{case.scores.active_units} of {case.latent} dimensions active"


def describe_missed_target(case: Case) -> str:
    """Give a KL that is not the requested one; in any state."""
    target = case.config.kl_target
    return "" if target is None or meets_target(case.scores.kl, target) else describe_miss(case.scores.kl, target)


def _compare_to_baseline(case: Case, cost: float) -> str:
    """Describe how far a cost is above the baseline: the difference, and of probabilities both figures."""
    assert case.baseline is not None
    figures = "" if case.domain.density else f" ({cost:.1f} and {case.baseline:.1f})"
    return f"{cost - case.baseline:.1f} nats more than {case.domain.baseline}{figures}"


# -- the table ---------------------------------------------------------------------------------------------------------

STATES = (
    State(
        "unknown words",
        "Too much of the text is <unk> for the scores to be of the text.",
        Case.has_unknown_words,
        (
            describe_unknown,
            "it costs one token and the words that it stands for cost nothing: all scores look better than they are",
        ),
        change_tokenizer,
    ),
    State(
        "no latent",
        "The model is a language model.",
        lambda case: not case.latent,
        ("a language model: there is no z to be used or ignored",),
        suggest_nothing,
    ),
    State(
        "overfitted",
        "The model has memorised its training {units} and does worse on others; more {units} would help most.",
        Case.is_overfitted,
        (describe_gains, describe_memory, describe_simple),
        regularize,
    ),
    State(
        "under-trained",
        "The model has not learnt enough for the other signs to mean much.",
        Case.is_under_trained,
        (describe_reconstruction, describe_schedule),
        train_longer,
    ),
    State(
        "lagging encoder",
        "The decoder could use z, but q hardly differs from the prior.",
        lambda case: case.has_gap(case.scores.kl + GAP),
        (describe_gap, describe_kl),
        speed_up_encoder,
    ),
    State(
        "decoder ignores z",
        "z distinguishes {units}, but the decoder does not use it: it is a language model.",
        lambda case: case.ignores_z() and case.information[0] >= INFORMATION,
        (describe_permutation, describe_information, describe_kl),
        enforce_use,
    ),
    State(
        "collapsed",
        "Posterior collapse: q is the prior, z carries no information, and the decoder is a language model.",
        lambda case: case.ignores_z() and case.scores.kl < KL,
        (describe_kl, describe_permutation),
        encourage_use,
    ),
    State(
        "KL without information",
        "q differs from the prior, in its variance for example, but z does not distinguish {units}.",
        Case.ignores_z,
        (describe_kl, describe_information, describe_permutation),
        make_informative,
    ),
    State(
        "lagging encoder",
        "The decoder could use z, but the encoder does not find the z that fits.",
        lambda case: case.has_gap(max(GAP, GAP_FRACTION * case.scores.kl)),
        (describe_gap, describe_kl),
        speed_up_encoder,
    ),
    State(
        "prior holes",
        "The rate is too high for the prior: {units} are reconstructed, but samples of the prior fall between them.",
        lambda case: case.costs_more_than_baseline() or case.misses_mass() or case.is_unsure_at_prior(),
        (describe_nll, describe_missed_mass, describe_entropy, describe_kl),
        cover_prior,
    ),
    State(
        "partly collapsed",
        "z is used, but few of its dimensions, or they carry little information.",
        Case.is_partly_collapsed,
        (describe_units, describe_information_fraction, describe_permutation),
        encourage_use,
    ),
    State(
        "healthy",
        "Encoder and decoder both use z.",
        lambda case: True,
        (describe_units, describe_kl, describe_permutation),
        suggest_nothing,
    ),
)
