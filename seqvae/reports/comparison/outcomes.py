"""Several trained models beside each other: mean and deviation over seeds, and the difference to the language model."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqvae.errors import ConfigError
from seqvae.reports.comparison.tables import Cell, Column, Estimate, Table

RESAMPLES = 10_000
BLOCK = 1_000_000  # drawn sentences that are held at a time: 24 MB


@dataclass(frozen=True, eq=False)
class Outcome:
    """One run, trained and evaluated.

    Attributes:
        name: of its recipe or folder; runs that differ in their seed alone share it.
        seed: of the training.
        kind: `vae`, `ae` (weight 0) or `lm` (no latent).
        scores: by the names of `seqvae.evaluation.evaluate.Scores`; what is missing or None was not measured.
        nll: (N,) nats of each test sentence, in the order of the corpus.
        curve: the validations in their order, as in `metrics.jsonl`.
        sentences: lists of texts: `samples`, `originals`, `reconstructions`, `interpolation`.
        minutes: that the training took.
        diagnosis: one line on its health.
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
    Column("unknown", "<unk>", "share of the targets that are <unk>, whose nll is not that of a word", ",.3f"),
    Column("bits_per_byte", "bits/byte", "bits for each byte of the text", ",.3f"),
    Column("mutual_information_lower", "MI lower", "mutual information of sentence and z, nats, lower end", "z,.2f"),
    Column("mutual_information_upper", "MI upper", "mutual information of sentence and z, nats, upper end", "z,.2f"),
    Column("active_units", "active units", "latent dimensions that tell sentences apart", ",.1f"),
    Column(
        "permuted_nll_increase", "z permuted", "rise of the reconstruction with another sentence's z, nats", "z,.2f"
    ),
    Column(
        "inference_gap",
        "inference gap",
        "what a better q(z|x) of the same decoder gains at least, nats/sentence",
        "z,.2f",
    ),
    Column("gap_to_entropy", "gap to entropy", "-log p(x) less the exact one, nats per sentence", "z,.2f"),
    Column("bleu_mean", "BLEU", "of reconstructions from posterior means, 0 to 100", ",.1f"),
    Column(
        "forward_perplexity", "forward PPL", "of samples under an n-gram model of the training text, per token", ",.1f"
    ),
    Column("reverse_perplexity", "reverse PPL", "of held-out text under an n-gram model of samples, per token", ",.1f"),
    Column("distinct_2", "distinct-2", "different pairs of words over all pairs, of the samples", ",.3f"),
    Column("minutes", "minutes", "of training", ",.1f"),
    Column("diagnosis", "diagnosis"),
)


def compare(
    outcomes: Sequence[Outcome],
    *,
    floors: Mapping[str, Mapping[str, float]] | None = None,
    definitions: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Table:
    """One row for each recipe, in the order given, then the floors; columns that nobody has a value for are left out.

    Args:
        outcomes: the runs, scored on the same sentences; those of kind `lm` are what the others are compared to.
        floors: scores (`nll`, `perplexity`, `bits_per_byte`) by the names of models without training, such as unigrams.
        definitions: what the scores mean, in place of the short ones here.
        seed: of the bootstrap.

    Raises:
        ConfigError: if there are no runs, or they were scored on different numbers of sentences.
    """
    count, runs = _sentences(outcomes), by_name(outcomes)
    differences = to_language_model(outcomes, seed=seed)
    rows: list[dict[str, Cell]] = [_row(name, group, differences.get(name)) for name, group in runs.items()]
    for name, scores in (floors or {}).items():
        values = {c.name: Estimate(scores[c.name]) for c in COLUMNS if c.shape and c.name in scores}
        rows.append({"recipe": name, "kind": "floor", **values})
    shown = [column for column in COLUMNS if any(row.get(column.name) not in (None, "") for row in rows)]
    meaning = definitions or {}
    columns = tuple(replace(c, definition=meaning.get(c.name, c.definition)) for c in shown)
    return Table(_caption(rows, count), columns, tuple(rows))


def by_name(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The runs of each recipe, recipes in the order of their first run."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.name, []).append(outcome)
    return groups


def measured(scores: Mapping[str, Any], name: str) -> float | None:
    """A score, or `negative_elbo`, of a run or of a line of its curve; None if it was not measured."""
    sign, key = (-1, "elbo") if name == "negative_elbo" else (1, name)
    value = scores.get(key)
    return None if value is None else sign * value


def to_language_model(outcomes: Sequence[Outcome], *, seed: int = 0) -> dict[str, Estimate]:
    """Mean difference of -log p(x) to the language model by recipe, nats per sentence, with its 95 % interval.

    The nll of a sentence is first averaged over the seeds (for the reference: over all runs of kind `lm`), so that the
    interval speaks of the choice of sentences, not of the choice of seeds. Empty without a language model; recipes with
    another share of `<unk>` are left out, since their nll is of other words.
    """
    reference = [outcome.nll for outcome in outcomes if outcome.kind == "lm"]
    usual = {outcome.scores.get("unknown") for outcome in outcomes if outcome.kind == "lm"}
    others = {name: [o.nll for o in group if o.kind != "lm"] for name, group in by_name(outcomes).items()}
    share = {o.name: o.scores.get("unknown") for o in outcomes}
    others = {name: group for name, group in others.items() if group and share[name] in usual}
    if not reference or not others or not len(reference[0]):
        return {}
    pairs = np.stack([np.mean(group, axis=0) - np.mean(reference, axis=0) for group in others.values()])
    low, high = bootstrap_interval(pairs, seed=seed)
    means = pairs.mean(axis=1)
    return {name: Estimate(float(means[i]), interval=(float(low[i]), float(high[i]))) for i, name in enumerate(others)}


def bootstrap_interval(
    values: np.ndarray, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of means over sentences, the sentences drawn anew with replacement.

    All rows see the same draws. Differences of two models on the same sentences make it the paired bootstrap.

    Args:
        values: (R, N), R quantities on N sentences.
        resamples: how often N sentences are drawn.
        level: probability that the interval is made for.
        seed: of the draws.

    Returns:
        low and high, each (R,).

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; paired, for texts: Koehn,
    Statistical Significance Tests for Machine Translation Evaluation, 2004.

    >>> low, high = bootstrap_interval(np.array([[0.0, 1.0], [3.0, 3.0]]))
    >>> low.tolist(), high.tolist()
    ([0.0, 3.0], [1.0, 3.0])
    """
    generator, count = np.random.default_rng(seed), values.shape[1]
    block, means = max(1, BLOCK // count), []
    for first in range(0, resamples, block):
        rows = min(block, resamples - first)
        drawn = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        # How often each sentence was drawn, times the values: one product of matrices serves all quantities.
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        means.append(times.astype(np.float64) @ values.T / count)
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return low, high


def _sentences(outcomes: Sequence[Outcome]) -> int:
    """The number of sentences that all runs were scored on."""
    if not outcomes:
        raise ConfigError("nothing to compare: expected one trained run or more")
    first = outcomes[0]
    for other in outcomes:
        if len(other.nll) != len(first.nll):
            one, two = (f"{o.name} (seed {o.seed}) on {len(o.nll):,} sentences" for o in (first, other))
            raise ConfigError(f"{one} and {two} cannot be compared: score all runs on the same sentences")
    return len(first.nll)


def _row(name: str, runs: Sequence[Outcome], difference: Estimate | None) -> dict[str, Cell]:
    numbers = [c.name for c in COLUMNS if c.shape and c.name not in ("runs", "difference")]
    return {
        "recipe": name,
        "kind": " / ".join(dict.fromkeys(run.kind for run in runs)),
        "runs": Estimate(len(runs)),
        "difference": difference,
        "diagnosis": "; ".join(dict.fromkeys(run.diagnosis for run in runs if run.diagnosis)),
        **{number: _over_seeds(runs, number) for number in numbers},
    }


def _over_seeds(runs: Sequence[Outcome], name: str) -> Estimate | None:
    """Mean and sample standard deviation over the runs that have it; of one run, its standard error if there is one."""
    values = {
        run: value for run in runs if (value := measured(run.scores | {"minutes": run.minutes}, name)) is not None
    }
    if not values:
        return None
    if len(values) == 1:
        ((run, value),) = values.items()
        return Estimate(value, standard_error=run.scores.get(f"{name.removeprefix('negative_')}_standard_error"))
    finite = all(map(math.isfinite, values.values()))
    return Estimate(statistics.fmean(values.values()), deviation=statistics.stdev(values.values()) if finite else None)


def _caption(rows: Sequence[Mapping[str, Cell]], count: int) -> str:
    """What was compared, and what the numbers beside the means are, as far as there are such."""
    parts = {part for row in rows for cell in row.values() if isinstance(cell, Estimate) for part in cell.parts()}
    notes = {
        "deviation": "± is the sample standard deviation over the seeds.",
        "standard_error": "Parentheses: the standard error over the sentences, of a single seed.",
        "low": "Brackets: the 95 % interval of the mean difference, by a paired bootstrap over the sentences "
        f"({RESAMPLES:,} resamples of the nll averaged over the seeds).",
    }
    known = [note for part, note in notes.items() if part in parts]
    return " ".join([f"Means over the same {count:,} sentences.", *known])
