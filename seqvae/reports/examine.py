"""Examination of a trained model: its scores on held-out sequences, those of simple baselines, and its diagnosis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path
from typing import Any

from seqvae.data.batching import iterate_by_length
from seqvae.data.series.corpus import SeriesSplit
from seqvae.data.text.corpus import TextSplit
from seqvae.evaluation import baselines
from seqvae.evaluation.baselines import NGram
from seqvae.evaluation.evaluate import score_split
from seqvae.evaluation.likelihood import Measurements, measure
from seqvae.evaluation.metrics import bits_per, perplexity, standard_error
from seqvae.evaluation.scores import Scores
from seqvae.pretrained import Pretrained
from seqvae.reports.case import Case
from seqvae.reports.diagnosis import Diagnosis, diagnose
from seqvae.series_vae import SeriesVAE
from seqvae.text_vae import TextVAE
from seqvae.training.build import build_update, make
from seqvae.training.runs import RECIPE

ORDER = 5  # of the larger n-gram model
BASELINE_SENTENCES = 200_000  # training sentences that the baselines are fitted to, at most
TRAIN_SENTENCES = 1_000  # training sentences whose reconstruction is measured, at most

BaselineScores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Examination:
    """The scores and the diagnosis of a model.

    Attributes:
        scores: of the held-out sentences.
        table: the measurements of each sentence, in the order of the split.
        baselines: name of an n-gram model -> its `nll`, `perplexity` and `bits_per_byte` on the same sentences (where
            white space does not split them into words `perplexity_token` in place of `perplexity`); of series, of a
            Gaussian and of a linear autoregression -> their `nll` and `nll_per_frame`.
        diagnosis: of the model.
    """

    scores: Scores
    table: Measurements
    baselines: BaselineScores
    diagnosis: Diagnosis


def examine(
    model: TextVAE | SeriesVAE,
    split: TextSplit | SeriesSplit,
    train: TextSplit | SeriesSplit | None = None,
    *,
    samples: int = 100,
    seed: int = 0,
    seeds: int = 1,
    refined: int = 100,
    folder: str | None = None,
    measured_by: Callable[..., Measurements] = measure,
) -> Examination:
    """Score a model on a split, and diagnose its state.

    Args:
        model: the model.
        split: held-out sentences, encoded with its tokenizer; or series.
        train: its training data, for the baselines and to see whether it has memorised them.
        samples: of z for each sentence.
        seed: of all samples.
        seeds: number of estimates of the importance-weighted likelihood.
        refined: sentences whose q is refined, to see whether the encoder lags.
        folder: the model folder, for the command that the diagnosis suggests.
        measured_by: what makes the table of the split (see `score_split`).
    """
    options: dict[str, Any] = {"samples": samples, "seed": seed, "seeds": seeds, "refined": refined}
    options["measured_by"] = measured_by
    scores, table = score_split(model.model, split, target_kl=model.config.kl_target, **options)
    found = score_baselines(split, train, model)
    baseline, train_baseline = next(iter(found.values()))["nll"] if found else None, None
    simple = min(((name, row["nll"]) for name, row in found.items()), key=lambda one: one[1], default=None)
    if found and train is not None and len(train) > 1:
        known = train.at_most(TRAIN_SENTENCES)
        scores = replace(scores, **score_training_sentences(model, known, seed))
        train_baseline = next(iter(score_baselines(known, train, model, orders=(1,)).values()))["nll"]
    diagnosis = diagnose_scores(model, scores, baseline, train_baseline, folder=folder, simple=simple)
    return Examination(scores, table, found, diagnosis)


def score_training_sentences(model: TextVAE | SeriesVAE, known: TextSplit | SeriesSplit, seed: int) -> dict[str, Any]:
    """Score the reconstruction of training sentences, from one sample of z each."""
    table = measure(model.model, iterate_by_length(known), samples=1, seed=seed)
    return {
        "train_reconstruction": float(table.reconstruction.mean()),
        "train_reconstruction_standard_error": standard_error(table.reconstruction),
        "train_sentences": len(known),
        "train_tokens": int(table.tokens.sum()),
    }


def diagnose_scores(
    model: Pretrained,
    scores: Scores,
    baseline: float | None = None,
    train_baseline: float | None = None,
    *,
    folder: str | None = None,
    simple: tuple[str, float] | None = None,
) -> Diagnosis:
    """Diagnose a model from its scores.

    Args:
        model: the model.
        scores: of held-out sentences.
        baseline: see `seqvae.reports.case.Case`.
        train_baseline: see there.
        folder: the model folder; one without a recipe, as from the hub, is not named in the command.
        simple: see `Case`.
    """
    if folder is not None and not (Path(folder) / RECIPE).is_file():
        folder = None
    schedule = make("objective.weight", model.config.objective.weight)
    if schedule.fraction is None:
        steps = model.checkpoint.facts.get("step")
        end = build_update(model.config).schedule_delay + schedule.annealing_steps
    else:
        steps, end = model.checkpoint.facts.get("schedule_step"), schedule.annealing_steps
    stationary = steps is None or steps >= end
    return diagnose(Case(scores, model.config, baseline, train_baseline, stationary, folder, simple))


@singledispatch
def score_baselines(split: Any, train: Any, model: Any, orders: Sequence[int] = (1, ORDER)) -> BaselineScores:
    """Score the baselines of a kind of data on a split, the simplest first; none without training data.

    Args:
        split: the sentences or series that are scored; its class decides which baselines there are.
        train: those that the baselines are fitted to, or None.
        model: whose tokens are counted.
        orders: of n-gram models.
    """
    raise TypeError(f"there are no baselines of {type(split).__name__}")


@score_baselines.register
def _(split: TextSplit, train: TextSplit | None, model: TextVAE, orders: Sequence[int] = (1, ORDER)) -> BaselineScores:
    return score_n_grams(split, train, len(model.tokenizer), orders)


@score_baselines.register
def _(split: SeriesSplit, train: SeriesSplit | None, model: SeriesVAE, orders: Any = None) -> BaselineScores:
    return {} if train is None else baselines.score_series_baselines(split, train.at_most(BASELINE_SENTENCES))


def score_n_grams(
    split: TextSplit, train: TextSplit | None, vocabulary: int, orders: Sequence[int] = (1, ORDER)
) -> BaselineScores:
    """Score n-gram models of the training sentences; none without these.

    Args:
        split: the sentences that are scored.
        train: those that are counted, at most `BASELINE_SENTENCES` of them.
        vocabulary: V.
        orders: of the n-gram models.
    """
    if train is None:
        return {}
    known = train.at_most(BASELINE_SENTENCES)
    counted, scored = (part.sequences(range(len(part))) for part in (known, split))
    size = int(split.bytes.sum())
    # Per word, or per token where there are no words: in the unit of the perplexity that the scores have too.
    unit, targets = "perplexity", int(split.words.sum()) + int(split.complete.sum())
    if not split.spaced:
        unit, targets = "perplexity_token", int(split.lengths.sum())
    found = {}
    for order in orders:
        nll = -float(NGram.fit(counted, order=order, vocabulary=vocabulary).log_probs(scored).sum())
        found["unigram" if order == 1 else f"{order}-gram"] = {
            "nll": nll / len(split),
            unit: perplexity(nll, targets),
            "bits_per_byte": bits_per(nll, size),
        }
    return found
