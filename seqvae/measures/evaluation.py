"""Evaluation: the scores of a model on a set of sentences.

Always in fp32 with noise and dropout off, weight 1 and the unmodified KL. The noise of a sentence is a function of the
seed and of the sentence, so the same seed gives it the same numbers wherever it stands and whatever stands beside it.
"""

from collections.abc import Iterable
from typing import Any

import torch

from seqvae.batch import UNKNOWN
from seqvae.decoding import evaluating
from seqvae.errors import CorpusError
from seqvae.measures.bounds import Indexed, measure
from seqvae.measures.measured import Measured
from seqvae.measures.metrics import active_units, bits_per, perplexity, standard_error
from seqvae.measures.proposals import mixture_nll
from seqvae.measures.scores import Scores
from seqvae.measures.space import Kept, aggregate, among, permuted_increase, placed, spread, talk
from seqvae.vae import SequenceVAE

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
