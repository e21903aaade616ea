"""Evaluate a model on a set of sentences, or on a split of a corpus with all that it knows of its sentences.

Always in fp32 with noise and dropout off, weight 1 and the unmodified KL. The noise of a sentence is a function of the
seed and of the sentence, so the same seed gives it the same numbers wherever it stands and whatever stands beside it.
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from seqvae.data.batch import UNKNOWN
from seqvae.data.batching import ordered
from seqvae.data.series.corpus import SeriesSplit
from seqvae.data.text.corpus import Split
from seqvae.data.text.grammar import FACTORS
from seqvae.errors import CorpusError
from seqvae.evaluation.inference_gap import inference_gap
from seqvae.evaluation.latent_space import Kept, aggregate, among, permuted_increase, placed, spread, talk
from seqvae.evaluation.likelihood import Indexed, Measured, measure, mixture_nll
from seqvae.evaluation.metrics import active_units, bits_per, perplexity, standard_error
from seqvae.evaluation.scores import Scores
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE


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


Counts = int | Iterable[int]


def evaluate(
    model: SequenceVAE,
    batches: Indexed,
    *,
    words: Counts | None = None,
    bytes: Counts | None = None,
    characters: Counts | None = None,
    exact: Iterable[float] | None = None,
    samples: int = 100,
    seed: int = 0,
    seeds: int = 1,
) -> Scores:
    """Score a model on a set of sentences: `measure` them, then `scored`.

    Args:
        model: put in evaluation mode while it works, then back.
        batches: each sentence once, with its place in the corpus; read once, in turn, and kept for further passes.
        words: words of the text that is scored, in all or for each sentence, without ends of sentences; None of what
            has no words, as series: the scores that count them are then left out. So for bytes and characters.
        bytes: UTF-8 bytes of that text, in all or for each sentence, with one for each end of sentence.
        characters: its Unicode characters, in all or for each sentence, with one for each end of sentence.
        exact: the true log p(x) of each sentence, nats, in the order of the corpus, where it is known.
        samples: draws of z for each sentence.
        seed: of all draws; the global random state is left alone.
        seeds: how often the importance-weighted pass is repeated, with seed, seed + 1, ...

    Raises:
        CorpusError: if there are fewer than 2 sentences.
        TrainingError: if a result is not finite.
    """
    kept = _indexed(batches)
    table = measure(model, kept, samples=samples, seed=seed, seeds=seeds)
    return scored(model, kept, table, words=words, bytes=bytes, characters=characters, exact=exact, seed=seed)


def scored(
    model: SequenceVAE,
    batches: Indexed,
    table: Measured,
    *,
    words: Counts | None = None,
    bytes: Counts | None = None,
    characters: Counts | None = None,
    exact: Iterable[float] | None = None,
    seed: int = 0,
) -> Scores:
    """The scores of sentences that were measured, for those who want the table itself too (as `table.nll`).

    Args:
        model: put in evaluation mode while it works, then back.
        batches: the sentences of the table, each with its place in the corpus.
        table: what `bounds.measure` says of them.
        words: this and the other arguments are those of `evaluate`.
        bytes: see there.
        characters: see there.
        exact: see there.
        seed: that of the table.

    Raises:
        CorpusError: if there are fewer than 2 sentences, or `exact` is not a finite number for each of them.
    """
    if len(table.index) < 2:
        raise CorpusError("evaluation compares sentences with each other: it needs at least 2, got 1")
    kept = _indexed(batches)
    found: dict[str, Any] = _likelihood(table) | ({} if exact is None else _entropy(table, exact))
    with evaluating(model):
        count, variances = active_units(*placed(model, table, seed))
        found |= _mixture(model, kept, table, seed) | aggregate(model, kept, table, seed)
        found |= _units(table, words, bytes, characters)
        if not kept[0][1].real:
            found |= talk(model, kept, table, seed)
            unknown = sum(int((b.targets == UNKNOWN)[b.mask].sum()) for _, b in kept)
            found["unknown"] = unknown / int(table.tokens.sum())
        else:
            frames = int((table.tokens - table.ended.long()).sum())
            found |= {"nll_per_frame": float(table.nll.sum()) / frames, "perplexity_token": None}
        return Scores(
            active_units=count,
            variances=tuple(variances.tolist()),
            permuted_nll_increase=permuted_increase(model, kept, table, seed),
            **found,
        )


def _likelihood(table: Measured) -> dict[str, Any]:
    """The scores that need the table alone."""
    scores: dict[str, Any] = {}
    for name in ("reconstruction", "kl", "nll"):
        column = getattr(table, name)
        scores |= {name: float(column.mean()), f"{name}_standard_error": standard_error(column)}
    means, tokens = table.passes.mean(0), int(table.tokens.sum())
    return scores | {
        "sentences": len(table.index),
        "tokens": tokens,
        "samples": int(table.samples[0]),
        "seeds": len(means),
        "kl_dimensions": None if table.kl_dimensions is None else tuple(table.kl_dimensions.mean(0).tolist()),
        "elbo": -(scores["reconstruction"] + scores["kl"]),
        "elbo_standard_error": standard_error(table.reconstruction + table.kl),
        "nll_seed_deviation": float(means.std()) if len(means) > 1 else None,
        "perplexity_token": perplexity(float(table.nll.sum()), tokens),
        "effective_sample_size": float(table.effective.mean()),
        "effective_sample_size_low": float(table.effective.quantile(0.05)),
    }


def _units(table: Measured, words: Counts | None, bytes: Counts | None, characters: Counts | None) -> dict[str, float]:
    """The NLL for each word, byte and character of the text, where these are counted."""
    ends, nll = int(table.ended.sum()), float(table.nll.sum())
    bound = float((table.reconstruction + table.kl).sum())
    found: dict[str, float] = {}
    if words is not None:
        targets = _sum(words) + ends
        found |= {"perplexity": perplexity(nll, targets), "perplexity_elbo": perplexity(bound, targets)}
    if bytes is not None:
        found["bits_per_byte"] = bits_per(nll, _sum(bytes))
    return found if characters is None else found | {"bits_per_character": bits_per(nll, _sum(characters))}


def _entropy(table: Measured, exact: Iterable[float]) -> dict[str, float]:
    """The exact -log p(x), and how far the model is above it."""
    surprise = -torch.as_tensor(list(exact), dtype=torch.float64)
    if len(surprise) != len(table.index):
        raise CorpusError(f"exact holds {len(surprise)} log probabilities: expected one for each of {len(table.index)}")
    if not surprise.isfinite().all():
        raise CorpusError("exact holds a log probability that is not finite: is the corpus a draw of its source?")
    gap = table.nll - surprise
    return {
        "entropy": float(surprise.mean()),
        "gap_to_entropy": float(gap.mean()),
        "gap_to_entropy_standard_error": standard_error(gap),
    }


def _mixture(model: SequenceVAE, kept: Kept, table: Measured, seed: int) -> dict[str, float]:
    """How much lower the NLL is by as many draws of the mixture of q and p."""
    samples = int(table.samples[0])
    if samples < 2:
        return {}
    chosen = spread(len(table.index))
    other = mixture_nll(model, among(kept, table.index[chosen]), samples=samples, seed=seed)
    gain = table.passes[chosen, 0] - other
    return {"mixture_gain": float(gain.mean()), "mixture_gain_standard_error": standard_error(gain)}


def _indexed(batches: Indexed) -> Kept:
    return [(torch.as_tensor(index).long(), batch) for index, batch in batches]


def _sum(given: Counts) -> int:
    return int(torch.as_tensor(given).sum())
