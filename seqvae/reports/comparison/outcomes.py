"""Several trained models beside each other: means over seeds, and the difference to the language model."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqvae.errors import ConfigError
from seqvae.reports.comparison.tables import Cell, Column, Estimate, Table

RESAMPLES = 10_000
BLOCK = 1_000_000  # resampled values that are held at a time: 8 MB


@dataclass(frozen=True, eq=False)
class Outcome:
    """One run, trained and evaluated.

    Attributes:
        name: of its recipe or folder; runs that differ in their seed alone share it.
        seed: of the training.
        kind: `vae`, `ae` (weight 0) or `lm` (no latent).
        scores: by the names of `seqvae.evaluation.scores.Scores`; those that are missing or None were not measured.
        nll: (N,) -log p(x) of each test sentence, nats, in the order of the corpus.
        curve: the validations in their order, as in `metrics.jsonl`.
        sentences: lists of texts: `samples`, `originals`, `reconstructions`, `interpolation`.
        minutes: of training.
        diagnosis: the state that `seqvae.reports.diagnosis` finds.
    """

    name: str
    seed: int
    kind: str
    scores: dict[str, Any]
    nll: np.ndarray
    curve: list[dict[str, Any]]
    sentences: dict[str, list[str]]
    minutes: float
    diagnosis: str = ""


COLUMNS = (
    Column("recipe", "recipe"),
    Column("kind", "kind"),
    Column("runs", "seeds", "", "d"),
    Column("nll", "-log p(x)", "nats per sentence, the lower the better", "z,.2f"),
    Column(
        "difference",
        "difference to LM",
        "-log p(x) less that of the language model on the same sentences, nats per sentence; below 0 is better than it",
        "+z,.2f",
    ),
    Column("reconstruction", "reconstruction", "-E_q[log p(x|z)], nats per sentence", "z,.2f"),
    Column("kl", "KL", "KL(q(z|x) || p(z)), nats per sentence", "z,.2f"),
    Column("negative_elbo", "-ELBO", "reconstruction + KL, nats per sentence: an upper bound of -log p(x)", "z,.2f"),
    Column("perplexity", "perplexity", "per word", ",.1f"),
    Column("unknown", "<unk>", "fraction of the targets that are <unk>, whose nll is not that of a word", ",.3f"),
    Column("bits_per_byte", "bits/byte", "bits for each byte of the text", ",.3f"),
    Column("mutual_information_lower", "MI lower", "mutual information of sentence and z, nats, lower bound", "z,.2f"),
    Column("mutual_information_upper", "MI upper", "mutual information of sentence and z, nats, upper bound", "z,.2f"),
    Column("active_units", "active units", "latent dimensions whose posterior mean differs between sentences", ",.1f"),
    Column(
        "permuted_nll_increase",
        "z permuted",
        "rise of the reconstruction with another sentence's z, nats",
        "z,.2f",
    ),
    Column(
        "inference_gap",
        "inference gap",
        "rise of the ELBO when q(z|x) is refined for the same decoder, a lower bound, nats per sentence",
        "z,.2f",
    ),
    Column("gap_to_entropy", "gap to entropy", "-log p(x) less the entropy of the corpus, nats per sentence", "z,.2f"),
    Column("bleu_mean", "BLEU", "of reconstructions from posterior means, 0 to 100", ",.1f"),
    Column(
        "forward_perplexity", "forward PPL", "of samples under an n-gram model of the training text, per token", ",.1f"
    ),
    Column("reverse_perplexity", "reverse PPL", "of held-out text under an n-gram model of samples, per token", ",.1f"),
    Column("distinct_2", "distinct-2", "distinct pairs of words over all pairs, of the samples", ",.3f"),
    Column("minutes", "minutes", "of training", ",.1f"),
    Column("diagnosis", "diagnosis"),
)


def compare(
    outcomes: Sequence[Outcome],
    *,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    definitions: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Table:
    """Make a table: a row for each recipe, in the order given, then the baselines; empty columns are left out.

    Args:
        outcomes: the runs, scored on the same sentences; the others are compared to those of kind `lm`.
        baselines: scores (`nll`, `perplexity`, `bits_per_byte`) of simple models, such as unigrams, by name.
        definitions: of scores by name, in place of the short ones here.
        seed: of the bootstrap.

    Raises:
        ConfigError: if there are no runs, or they were scored on different numbers of sentences.
    """
    count, runs = _count_sentences(outcomes), group_by_name(outcomes)
    differences = compare_to_language_model(outcomes, seed=seed)
    rows: list[dict[str, Cell]] = [_make_row(name, group, differences.get(name)) for name, group in runs.items()]
    for name, scores in (baselines or {}).items():
        values = {c.name: Estimate(scores[c.name]) for c in COLUMNS if c.number_format and c.name in scores}
        rows.append({"recipe": name, "kind": "baseline", **values})
    shown = [column for column in COLUMNS if any(row.get(column.name) not in (None, "") for row in rows)]
    given = definitions or {}
    columns = tuple(replace(c, definition=given.get(c.name, c.definition)) for c in shown)
    return Table(_make_caption(rows, count), columns, tuple(rows))


def group_by_name(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Group the runs by recipe, recipes in the order of their first run."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.name, []).append(outcome)
    return groups


def get_score(scores: Mapping[str, Any], name: str) -> float | None:
    """Return a score, or `negative_elbo`, of a run or of a line of its curve; None if it was not measured."""
    sign, key = (-1, "elbo") if name == "negative_elbo" else (1, name)
    value = scores.get(key)
    return None if value is None else sign * value


def compare_to_language_model(outcomes: Sequence[Outcome], *, seed: int = 0) -> dict[str, Estimate]:
    """Return the mean difference of -log p(x) to the language model by recipe, nats per sentence, with 95 % intervals.

    The nll of a sentence is first averaged over the seeds (of the language model: over all runs of kind `lm`), so the
    interval covers the choice of sentences, not the choice of seeds. Empty without a language model. Recipes with
    another fraction of `<unk>` are left out, since their nll is of other words.
    """
    reference = [outcome.nll for outcome in outcomes if outcome.kind == "lm"]
    unknown = {outcome.scores.get("unknown") for outcome in outcomes if outcome.kind == "lm"}
    comparable = [outcome for outcome in outcomes if outcome.kind != "lm" and outcome.scores.get("unknown") in unknown]
    groups = group_by_name(comparable)
    if not reference or not groups or not len(reference[0]):
        return {}
    pairs = np.stack(
        [np.mean([o.nll for o in group], axis=0) - np.mean(reference, axis=0) for group in groups.values()]
    )
    low, high = bootstrap_interval(pairs, seed=seed)
    means = pairs.mean(axis=1)
    return {name: Estimate(float(means[i]), interval=(float(low[i]), float(high[i]))) for i, name in enumerate(groups)}


def bootstrap_interval(
    values: np.ndarray, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate percentile intervals of means over sentences, by resampling the sentences with replacement.

    All rows are resampled alike, so that differences of two models on the same sentences make it the paired bootstrap.

    Args:
        values: (R, N), R quantities on N sentences.
        resamples: number of resamples of N sentences.
        level: coverage of the interval.
        seed: of the resamples.

    Returns:
        low and high, each (R,).

    Raises:
        ConfigError: if scipy is not installed.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; paired, for texts: Koehn,
    Statistical Significance Tests for Machine Translation Evaluation, 2004.

    >>> low, high = bootstrap_interval(np.array([[0.0, 1.0], [3.0, 3.0]]))
    >>> low.tolist(), high.tolist()
    ([0.0, 3.0], [1.0, 3.0])
    """
    try:
        from scipy.stats import bootstrap
    except ImportError:
        raise ConfigError('comparisons need scipy: install it with pip install "seqvae[plot]"') from None
    found = bootstrap(
        (values,),
        np.mean,
        axis=1,
        method="percentile",
        n_resamples=resamples,
        confidence_level=level,
        batch=max(1, BLOCK // values.size),
        rng=np.random.default_rng(seed),
    )
    return found.confidence_interval.low, found.confidence_interval.high


def _count_sentences(outcomes: Sequence[Outcome]) -> int:
    """Return the number of sentences that all runs were scored on.

    Raises:
        ConfigError: if there are no runs, or their numbers of sentences differ.
    """
    if not outcomes:
        raise ConfigError("nothing to compare: expected one trained run or more")
    first = outcomes[0]
    for other in outcomes:
        if len(other.nll) != len(first.nll):
            one, two = (f"{o.name} (seed {o.seed}) on {len(o.nll):,} sentences" for o in (first, other))
            raise ConfigError(f"{one} and {two} cannot be compared: score all runs on the same sentences")
    return len(first.nll)


def _make_row(name: str, runs: Sequence[Outcome], difference: Estimate | None) -> dict[str, Cell]:
    numbers = [c.name for c in COLUMNS if c.number_format and c.name not in ("runs", "difference")]
    return {
        "recipe": name,
        "kind": " / ".join(dict.fromkeys(run.kind for run in runs)),
        "runs": Estimate(len(runs)),
        "difference": difference,
        "diagnosis": "; ".join(dict.fromkeys(run.diagnosis for run in runs if run.diagnosis)),
        **{number: _average_seeds(runs, number) for number in numbers},
    }


def _average_seeds(runs: Sequence[Outcome], name: str) -> Estimate | None:
    """Return mean and sample standard deviation over the runs with this score; of one run, its standard error."""
    values = {
        run: value for run in runs if (value := get_score(run.scores | {"minutes": run.minutes}, name)) is not None
    }
    if not values:
        return None
    if len(values) == 1:
        ((run, value),) = values.items()
        return Estimate(value, standard_error=run.scores.get(f"{name.removeprefix('negative_')}_standard_error"))
    deviation = statistics.stdev(values.values()) if all(map(math.isfinite, values.values())) else None
    return Estimate(statistics.fmean(values.values()), standard_deviation=deviation)


def _make_caption(rows: Sequence[Mapping[str, Cell]], count: int) -> str:
    """Describe the sentences and the numbers beside the means, as far as there are such."""
    parts = {part for row in rows for cell in row.values() if isinstance(cell, Estimate) for part in cell.parts()}
    notes = {
        "standard_deviation": "± is the sample standard deviation over the seeds.",
        "standard_error": "Parentheses: the standard error over the sentences, of a single seed.",
        "low": "Brackets: the 95 % interval of the mean difference, by a paired bootstrap over the sentences "
        f"({RESAMPLES:,} resamples of the nll averaged over the seeds).",
    }
    shown = [note for part, note in notes.items() if part in parts]
    return " ".join([f"Means over the same {count:,} sentences.", *shown])
