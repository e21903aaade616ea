"""Evaluation: the numbers that a model is judged by, each with its definition.

Always in fp32 with noise and dropout off, weight 1 and the unmodified KL. The noise of a sentence is a function of the
seed and of its place in the corpus, so the same seed gives the same numbers however sentences are put into batches.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from seqvae.batch import Batch
from seqvae.bounds import Indexed, Measured, device_of, log_likelihood, measure, slices
from seqvae.decoding import evaluating
from seqvae.errors import CorpusError
from seqvae.metrics import active_units, bits_per_byte, mutual_information, perplexity
from seqvae.vae import SequenceVAE

INFORMATION = 10_000  # sentences that the mutual information is estimated from, at most


def _score(definition: str) -> Any:
    return field(metadata={"definition": definition})


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a model on a set of sentences, each with its definition."""

    sentences: int = _score("number of sentences scored")
    tokens: int = _score("number of targets scored: the tokens, and one end for each sentence that was not cut")
    reconstruction: float = _score("-E_q[log p(x|z)], nats per sentence, mean over the draws")
    kl: float = _score("KL(q(z|x) || p(z)), nats per sentence, weight 1 and no floor")
    elbo: float = _score("-(reconstruction + kl), nats per sentence: a lower bound of log p(x)")
    nll: float = _score(
        "-log p(x), nats per sentence, importance weighted over `samples` draws: an upper bound, tighter the more draws"
    )
    nll_standard_error: float = _score("standard error of nll over the sentences, nats per sentence")
    samples: int = _score("draws of z for each sentence")
    perplexity: float = _score(
        "exp(total nll / (words + one end for each sentence that was not cut)): per word, for any tokenizer"
    )
    perplexity_elbo: float = _score("the same from -elbo in place of nll")
    bits_per_byte: float = _score(
        "total nll in bits / (UTF-8 bytes, with one line feed for each sentence that was not cut)"
    )
    mutual_information_lower: float = _score(
        "I(x; z), nats, lower end: at most log N of the N sentences used (10000 at most)"
    )
    mutual_information_upper: float = _score("I(x; z), nats, upper end: at most the kl of the same sentences")
    active_units: int = _score("latent dimensions whose posterior mean has a variance above 0.01 over the sentences")
    permuted_nll_increase: float = _score(
        "rise of the reconstruction when each sentence gets another one's z, nats per sentence"
    )


def definitions() -> dict[str, str]:
    """One plain line on each field of `Scores`, in their order."""
    return {score.name: score.metadata["definition"] for score in fields(Scores)}


def evaluate(
    model: SequenceVAE,
    batches: Indexed,
    *,
    words: int | Iterable[int],
    bytes: int | Iterable[int],
    samples: int = 100,
    seed: int = 0,
) -> Scores:
    """Score a model on a set of sentences.

    Args:
        model: put in evaluation mode while it works, then back.
        batches: each sentence once, with its place in the corpus; read once, in turn, and kept for a second pass.
        words: words of the text that is scored, in all or for each sentence, without ends of sentences.
        bytes: UTF-8 bytes of that text, in all or for each sentence, with one for each end of sentence.
        samples: draws of z for each sentence.
        seed: of all draws; the global random state is left alone.

    Raises:
        CorpusError: if there are fewer than 2 sentences.
        TrainingError: if a result is not finite.
    """
    kept: list[tuple[Tensor, Batch]] = []

    def keep() -> Iterator[tuple[Tensor, Batch]]:
        for index, batch in batches:
            kept.append((torch.as_tensor(index).long(), batch))
            yield kept[-1]

    table = measure(model, keep(), samples=samples, seed=seed)
    if len(table.index) < 2:
        raise CorpusError("evaluation compares sentences with each other: it needs at least 2, got 1")
    with evaluating(model):
        rise = _permuted_increase(model, kept, table, seed)
        lower, upper = _information(model, kept, table, seed)
    ends = int(table.ended.sum())
    reconstruction, divergence = float(table.reconstruction.mean()), float(table.kl.mean())
    total, bound = float(table.nll.sum()), float((table.reconstruction + table.kl).sum())
    return Scores(
        sentences=len(table.index),
        tokens=int(table.tokens.sum()),
        reconstruction=reconstruction,
        kl=divergence,
        elbo=-(reconstruction + divergence),
        nll=float(table.nll.mean()),
        nll_standard_error=float(table.nll.std()) / math.sqrt(len(table.index)),
        samples=samples,
        perplexity=perplexity(total, _sum(words) + ends),
        perplexity_elbo=perplexity(bound, _sum(words) + ends),
        bits_per_byte=bits_per_byte(total, _sum(bytes)),
        mutual_information_lower=lower,
        mutual_information_upper=upper,
        active_units=active_units(table.mean)[0],
        permuted_nll_increase=rise,
    )


def _permuted_increase(model: SequenceVAE, kept: Sequence[tuple[Tensor, Batch]], table: Measured, seed: int) -> float:
    """Mean rise of -log p(x|z), nats, when z of the first draw goes to the next sentence of a random round."""
    round_ = torch.randperm(len(table.index), generator=torch.Generator().manual_seed(seed))
    giver = torch.empty_like(round_)
    giver[round_] = round_.roll(1)  # one cycle through all sentences: nobody keeps its own
    rise = 0.0
    for index, batch in kept:
        for keys, part in slices(model, index, batch, len(batch)):
            place = torch.searchsorted(table.index, keys)
            z = table.z[giver[place]].to(part.lengths.device)
            rise += float((-log_likelihood(model, part, z).cpu() - table.first[place]).sum())
    return rise / len(table.index)


def _information(
    model: SequenceVAE, kept: Sequence[tuple[Tensor, Batch]], table: Measured, seed: int
) -> tuple[float, float]:
    """Bracket the mutual information over all sentences, or over a random `INFORMATION` of them."""
    chosen = torch.zeros(len(table.index), dtype=torch.bool)
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))
    chosen[order[:INFORMATION]] = True
    states, places = [], []
    for index, batch in kept:
        place = torch.searchsorted(table.index, index)
        rows = chosen[place]
        if rows.any():
            states.append(model.encoder(batch.select(rows).to(device_of(model))))
            places.append(place[rows])
    place, device = torch.cat(places), device_of(model)
    q = model.posterior(torch.cat(states))
    return mutual_information(q, table.z[place].to(device), table.kl[place].to(device))


def _sum(given: int | Iterable[int]) -> int:
    return int(torch.as_tensor(given).sum())
