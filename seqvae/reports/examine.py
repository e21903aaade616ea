"""Examining a trained model: its scores on held-out text, the floors to hold them against, the doctor's diagnosis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqvae.data.batching import ordered
from seqvae.data.series.corpus import SeriesSplit
from seqvae.data.text.corpus import Split
from seqvae.evaluation.baselines import NGram
from seqvae.evaluation.baselines import floors as series_floors
from seqvae.evaluation.evaluate import score_split
from seqvae.evaluation.likelihood import Measured, measure
from seqvae.evaluation.metrics import bits_per, perplexity, standard_error
from seqvae.evaluation.scores import Scores
from seqvae.pretrained import Pretrained
from seqvae.reports.diagnosis import Case, Diagnosis, diagnose
from seqvae.series_vae import SeriesVAE
from seqvae.text_vae import TextVAE
from seqvae.training.build import build_update, make
from seqvae.training.runs import RECIPE

ORDER = 5  # of the larger floor
KNOWN = 200_000  # training sentences that the floors count, at most
REREAD = 1_000  # training sentences whose reconstruction is measured, at most


@dataclass(frozen=True)
class Examination:
    """What is known of a model after it was examined.

    Attributes:
        scores: of the held-out sentences.
        table: what was measured of each sentence, in the order of the split.
        floors: name of an n-gram model -> its `nll`, `perplexity` and `bits_per_byte` on the same sentences (where
            white space does not split them into words `perplexity_token` in place of `perplexity`); of series, of a
            Gaussian and of a linear autoregression -> their `nll` and `nll_per_frame`.
        diagnosis: what the doctor says.
    """

    scores: Scores
    table: Measured
    floors: dict[str, dict[str, float]]
    diagnosis: Diagnosis


def examine(
    model: TextVAE | SeriesVAE,
    split: Split | SeriesSplit,
    train: Split | SeriesSplit | None = None,
    *,
    samples: int = 100,
    seed: int = 0,
    seeds: int = 1,
    refined: int = 100,
    folder: str | None = None,
) -> Examination:
    """Score a model on a split, and name its state.

    Args:
        model: the model.
        split: held-out sentences, encoded with its tokenizer; or series.
        train: those that it was trained on, for the floors and to see whether it has memorised them.
        samples: draws of z for each sentence.
        seed: of all draws.
        seeds: how often the importance-weighted likelihood is estimated.
        refined: sentences whose q is refined, to see whether the encoder lags.
        folder: the model folder, for the doctor to name.
    """
    options = {"samples": samples, "seed": seed, "seeds": seeds, "refined": refined}
    scores, table = score_split(model.model, split, target_kl=model.config.held_kl, **options)
    found = floors_of(model, split, train)
    unigram, train_unigram = next(iter(found.values()))["nll"] if found else None, None
    if found and train is not None and len(train) > 1:
        known = train.at_most(REREAD)
        scores = replace(scores, **reread(model, known, seed))
        train_unigram = next(iter(floors_of(model, known, train, orders=(1,)).values()))["nll"]
    return Examination(scores, table, found, judged(model, scores, unigram, train_unigram, folder=folder))


def reread(model: TextVAE | SeriesVAE, known: Split | SeriesSplit, seed: int) -> dict[str, Any]:
    """The scores of training sentences: their reconstruction from one draw of z each."""
    table = measure(model.model, ordered(known), samples=1, seed=seed)
    return {
        "train_reconstruction": float(table.reconstruction.mean()),
        "train_reconstruction_standard_error": standard_error(table.reconstruction),
        "train_sentences": len(known),
        "train_tokens": int(table.tokens.sum()),
    }


def judged(
    model: Pretrained,
    scores: Scores,
    unigram: float | None = None,
    train_unigram: float | None = None,
    *,
    folder: str | None = None,
) -> Diagnosis:
    """The doctor's diagnosis from scores that are there already."""
    if folder is not None and not (Path(folder) / RECIPE).is_file():  # a model of the hub
        folder = None
    schedule = make("objective.weight", model.config.objective.weight)
    settled = build_update(model.config).before + schedule.settled
    steps = model.checkpoint.facts.get("step")
    return diagnose(Case(scores, model.config, unigram, train_unigram, steps is None or steps >= settled, folder))


def floors_of(
    model: TextVAE | SeriesVAE,
    split: Split | SeriesSplit,
    train: Split | SeriesSplit | None,
    orders: Sequence[int] = (1, ORDER),
) -> dict[str, dict[str, float]]:
    """What models without training score on the same split, the simplest first; nothing without training data."""
    if isinstance(split, SeriesSplit):
        return series_floors(split, train.at_most(KNOWN)) if isinstance(train, SeriesSplit) else {}
    if isinstance(model, TextVAE) and not isinstance(train, SeriesSplit):
        return floors(split, train, len(model.tokenizer), orders)
    return {}


def floors(
    split: Split, train: Split | None, vocabulary: int, orders: Sequence[int] = (1, ORDER)
) -> dict[str, dict[str, float]]:
    """What n-gram models of the training sentences score; nothing without these.

    Args:
        split: the sentences that are scored.
        train: those that are counted, at most `KNOWN` of them.
        vocabulary: V.
        orders: of the n-gram models.
    """
    if train is None:
        return {}
    known = train.at_most(KNOWN)
    seen, told = (part.sequences(range(len(part))) for part in (known, split))
    size = int(split.bytes.sum())
    # Per word, or per token where there are no words: in the unit of the perplexity that the scores have too.
    unit, targets = "perplexity", int(split.words.sum()) + int(split.complete.sum())
    if not split.divided:
        unit, targets = "perplexity_token", int(split.lengths.sum())
    found = {}
    for order in orders:
        nll = -float(NGram.fit(seen, order=order, vocabulary=vocabulary).log_probs(told).sum())
        found["unigram" if order == 1 else f"{order}-gram"] = {
            "nll": nll / len(split),
            unit: perplexity(nll, targets),
            "bits_per_byte": bits_per(nll, size),
        }
    return found
