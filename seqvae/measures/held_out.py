"""The scores of a split: `evaluate` with all that a split of a corpus knows of its sentences."""

import math
from contextlib import suppress
from dataclasses import replace

import torch

from seqvae.batch import UNKNOWN
from seqvae.measures.bounds import measure
from seqvae.measures.evaluation import scored
from seqvae.measures.measured import Measured
from seqvae.measures.metrics import standard_error
from seqvae.measures.refinement import inference_gap
from seqvae.measures.scores import Scores
from seqvae.measures.space import among, spread
from seqvae.series.corpus import SeriesSplit
from seqvae.text.batching import ordered
from seqvae.text.corpus import Split
from seqvae.text.grammar import FACTORS
from seqvae.vae import SequenceVAE


def score_split(
    model: SequenceVAE,
    split: Split | SeriesSplit,
    *,
    samples: int = 100,
    seed: int = 0,
    seeds: int = 1,
    refined: int = 100,
    target_kl: float | None = None,
) -> tuple[Scores, Measured]:
    """The scores of a split, and the table of its sentences that they were made from.

    Args:
        model: put in evaluation mode while it works, then back.
        split: held-out sentences, encoded with the tokenizer of the model, or series.
        samples: draws of z for each sentence.
        seed: of all draws.
        seeds: how often the importance-weighted likelihood is estimated.
        refined: sentences, evenly spread, whose q is refined to measure the inference gap; 0 leaves it out.
        target_kl: the KL that the training was to hold, nats per sentence; None if it had none.

    Raises:
        CorpusError: if there are fewer than 2 sentences.
        TrainingError: if a result is not finite.
    """
    kept = [(torch.from_numpy(index), batch) for index, batch in ordered(split)]
    table = measure(model, kept, samples=samples, seed=seed, seeds=seeds)
    if isinstance(split, SeriesSplit):
        scores = scored(model, kept, table, seed=seed)
    else:
        words = split.words if split.divided else None
        counts = {"words": words, "bytes": split.bytes, "characters": split.characters}
        scores = scored(model, kept, table, exact=exact(split), seed=seed, **counts)
    if target_kl is not None:
        scores = replace(scores, target_kl=target_kl, target_kl_distance=scores.kl / target_kl - 1)
    if refined and model.latent:
        with suppress(NotImplementedError):  # only diagonal Gaussians can be refined
            gap = inference_gap(model, among(kept, table.index[spread(len(split), refined)]), seed=seed)
            scores = replace(scores, inference_gap=float(gap.mean()), inference_gap_standard_error=standard_error(gap))
    return scores, table


def factors(split: Split) -> list[str]:
    """The columns that hold the factors of the built-in grammar, if its sentences these are; else none."""
    return list(FACTORS) if {"log_prob", *FACTORS} <= set(split.columns) else []


def exact(split: Split) -> list[float] | None:
    """The true log p(x) of each sentence, nats, if they are whole sentences of the built-in grammar; else None.

    Where the sentences have labels y it is log p(x|y) = log p(x) - log p(y), if these are a factor of the grammar, for
    which x decides.
    """
    if not factors(split) or not split.complete.all():
        return None
    unknown = any(UNKNOWN in ids for ids in split.sequences(range(len(split))))
    column = None if split.labelled is None else split.labelled.column
    if unknown or (column is not None and column not in FACTORS):
        return None
    known = split.column("log_prob")
    if column is None:
        return known
    return [log - math.log(FACTORS[column][value]) for log, value in zip(known, split.column(column), strict=True)]
