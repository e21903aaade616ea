"""Evaluate a model on a set of sentences, or on a split of a corpus with the counts and labels of its sentences.

Always in fp32 with noise and dropout off, weight 1 and the unmodified KL. The noise of a sentence is a function of the
seed and of the sentence, so that its scores depend neither on its place in the corpus nor on its batch.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from seqvae.data.batch import UNKNOWN
from seqvae.data.batching import iterate_by_length
from seqvae.data.corpus import Split
from seqvae.data.text.grammar import FACTORS
from seqvae.errors import CorpusError
from seqvae.evaluation.inference_gap import inference_gap
from seqvae.evaluation.latent_space import (
    BatchList,
    find_means_and_variance,
    measure_decoder_entropy,
    measure_permuted_increase,
    score_aggregate,
    select_sentences,
    space_evenly,
)
from seqvae.evaluation.likelihood import IndexedBatches, Measurements, estimate_mixture_nll, measure
from seqvae.evaluation.metrics import active_units, bits_per, perplexity, standard_error
from seqvae.evaluation.scores import Scores
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE


def score_split(
    model: SequenceVAE,
    split: Split,
    *,
    samples: int = 100,
    seed: int = 0,
    seeds: int = 1,
    refined: int = 100,
    target_kl: float | None = None,
    measured_by: Callable[..., Measurements] = measure,
) -> tuple[Scores, Measurements]:
    """Compute the scores of a split; return them and the table of its sentences.

    Args:
        model: set to evaluation mode meanwhile.
        split: held-out sentences, encoded with the tokenizer of the model, or series.
        samples: samples of z for each sentence.
        seed: of all samples.
        seeds: number of estimates of the importance-weighted likelihood.
        refined: sentences, evenly spaced, whose q is refined to measure the inference gap; 0 leaves it out.
        target_kl: the KL that the training aimed at, nats per sentence; None if there was no target.
        measured_by: what makes the table: `measure`, or a function that shares it with other processes.

    Raises:
        CorpusError: if there are fewer than 2 sentences.
        TrainingError: if a result is not finite.
    """
    batches = [(torch.from_numpy(index), batch) for index, batch in iterate_by_length(split)]
    table = measured_by(model, batches, samples=samples, seed=seed, seeds=seeds)
    true_log_probs = find_true_log_probs(split)
    scores = compute_scores(model, batches, table, true_log_probs=true_log_probs, seed=seed, **split.counts)
    if target_kl is not None:
        scores = replace(scores, target_kl=target_kl, target_kl_distance=scores.kl / target_kl - 1)
    if refined and model.latent:
        with suppress(NotImplementedError):  # only diagonal Gaussians can be refined
            chosen = table.index[space_evenly(len(split), refined)]
            gap = inference_gap(model, select_sentences(batches, chosen), seed=seed)
            scores = replace(scores, inference_gap=float(gap.mean()), inference_gap_standard_error=standard_error(gap))
    return scores, table


def find_factors(split: Split) -> list[str]:
    """Return the columns with the factors of the built-in grammar, if these are its sentences; else none."""
    return list(FACTORS) if {"log_prob", *FACTORS} <= set(split.columns) else []


def find_true_log_probs(split: Any) -> list[float] | None:
    """Return the true log p(x) of each sentence, nats, if all are whole sentences of the built-in grammar; else None.

    Where the sentences have labels y it is log p(x|y) = log p(x) - log p(y), if these are a factor of the grammar,
    which x determines.
    """
    if not find_factors(split) or not split.complete.all():
        return None
    unknown = any(UNKNOWN in ids for ids in split.sequences(range(len(split))))
    column = None if split.label_column is None else split.label_column.column
    if unknown or (column is not None and column not in FACTORS):
        return None
    known = split.column("log_prob")
    if column is None:
        return known
    return [log - math.log(FACTORS[column][value]) for log, value in zip(known, split.column(column), strict=True)]


Counts = int | Iterable[int]


def evaluate(
    model: SequenceVAE,
    batches: IndexedBatches,
    *,
    words: Counts | None = None,
    bytes: Counts | None = None,
    characters: Counts | None = None,
    true_log_probs: Iterable[float] | None = None,
    samples: int = 100,
    seed: int = 0,
    seeds: int = 1,
) -> Scores:
    """Score a model on a set of sentences: `measure` them, then `compute_scores`.

    Args:
        model: set to evaluation mode meanwhile.
        batches: each sentence once, with its index in the corpus; iterated once, and stored for further passes.
        words: words of the text that is scored, in all or for each sentence, without EOS; None for what has no words,
            as series: the scores that count them are then left out. Likewise bytes and characters.
        bytes: UTF-8 bytes of that text, in all or for each sentence, with one for each EOS.
        characters: its Unicode characters, in all or for each sentence, with one for each EOS.
        true_log_probs: the true log p(x) of each sentence, nats, in the order of the corpus, where it is known.
        samples: samples of z for each sentence.
        seed: of all samples; the global random state is not changed.
        seeds: number of importance-weighted passes, with seed, seed + 1, ...

    Raises:
        CorpusError: if there are fewer than 2 sentences.
        TrainingError: if a result is not finite.
    """
    stored = _store_batches(batches)
    table = measure(model, stored, samples=samples, seed=seed, seeds=seeds)
    counts: dict[str, Counts | None] = {"words": words, "bytes": bytes, "characters": characters}
    return compute_scores(model, stored, table, **counts, true_log_probs=true_log_probs, seed=seed)


def compute_scores(
    model: SequenceVAE,
    batches: IndexedBatches,
    table: Measurements,
    *,
    words: Counts | None = None,
    bytes: Counts | None = None,
    characters: Counts | None = None,
    true_log_probs: Iterable[float] | None = None,
    seed: int = 0,
) -> Scores:
    """Compute the scores of measured sentences, for callers that need the table itself too (as `table.nll`).

    Args:
        model: set to evaluation mode meanwhile.
        batches: the sentences of the table, each with its index in the corpus.
        table: the result of `measure`.
        words: this and the other arguments are those of `evaluate`.
        bytes: see there.
        characters: see there.
        true_log_probs: see there.
        seed: that of the table.

    Raises:
        CorpusError: if there are fewer than 2 sentences, or `true_log_probs` is not a finite number for each of them.
    """
    if len(table.index) < 2:
        raise CorpusError("evaluation compares sentences with each other: it needs at least 2, got 1")
    stored = _store_batches(batches)
    found: dict[str, Any] = _score_likelihood(table) | (
        {} if true_log_probs is None else _compare_with_entropy(table, true_log_probs)
    )
    with evaluating(model):
        count, variances = active_units(*find_means_and_variance(model, table, seed))
        found |= _score_mixture(model, stored, table, seed) | score_aggregate(model, stored, table, seed)
        found |= _score_per_unit(table, words, bytes, characters)
        if not stored[0][1].real:
            found |= measure_decoder_entropy(model, stored, table, seed)
            unknown = sum(int((b.targets == UNKNOWN)[b.mask].sum()) for _, b in stored)
            found["unknown"] = unknown / int(table.tokens.sum())
        else:
            frames = int((table.tokens - table.ended.long()).sum())
            found |= {"nll_per_frame": float(table.nll.sum()) / frames, "perplexity_token": None}
        return Scores(
            active_units=count,
            variances=tuple(variances.tolist()),
            permuted_nll_increase=measure_permuted_increase(model, stored, table, seed),
            **found,
        )


def _score_likelihood(table: Measurements) -> dict[str, Any]:
    """Compute the scores that need the table alone."""
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
        "nll_seed_standard_deviation": float(means.std()) if len(means) > 1 else None,
        "perplexity_token": perplexity(float(table.nll.sum()), tokens),
        "effective_sample_size": float(table.effective.mean()),
        "effective_sample_size_low": float(table.effective.quantile(0.05)),
    }


def _score_per_unit(
    table: Measurements, words: Counts | None, bytes: Counts | None, characters: Counts | None
) -> dict[str, float]:
    """Compute the NLL per word, byte and character of the text, where these are counted."""
    ends, nll = int(table.ended.sum()), float(table.nll.sum())
    bound = float((table.reconstruction + table.kl).sum())
    found: dict[str, float] = {}
    if words is not None:
        targets = _sum(words) + ends
        found |= {"perplexity": perplexity(nll, targets), "perplexity_elbo": perplexity(bound, targets)}
    if bytes is not None:
        found["bits_per_byte"] = bits_per(nll, _sum(bytes))
    return found if characters is None else found | {"bits_per_character": bits_per(nll, _sum(characters))}


def _compare_with_entropy(table: Measurements, true_log_probs: Iterable[float]) -> dict[str, float]:
    """Compute the mean of the true -log p(x), and how far the model is above it."""
    surprise = -torch.as_tensor(list(true_log_probs), dtype=torch.float64)
    if len(surprise) != len(table.index):
        raise CorpusError(
            f"true_log_probs has {len(surprise)} values: expected one for each of {len(table.index)} sentences"
        )
    if not surprise.isfinite().all():
        raise CorpusError(
            "true_log_probs has a value that is not finite: expected sentences that their source can generate"
        )
    gap = table.nll - surprise
    return {
        "entropy": float(surprise.mean()),
        "gap_to_entropy": float(gap.mean()),
        "gap_to_entropy_standard_error": standard_error(gap),
    }


def _score_mixture(model: SequenceVAE, batches: BatchList, table: Measurements, seed: int) -> dict[str, float]:
    """Compute how much lower the NLL is by as many samples of the mixture of q and p."""
    samples = int(table.samples[0])
    if samples < 2:
        return {}
    chosen = space_evenly(len(table.index))
    other = estimate_mixture_nll(model, select_sentences(batches, table.index[chosen]), samples=samples, seed=seed)
    gain = table.passes[chosen, 0] - other
    return {"mixture_gain": float(gain.mean()), "mixture_gain_standard_error": standard_error(gain)}


def _store_batches(batches: IndexedBatches) -> BatchList:
    return [(torch.as_tensor(index).long(), batch) for index, batch in batches]


def _sum(given: Counts) -> int:
    return int(torch.as_tensor(given).sum())
