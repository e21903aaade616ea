"""Evaluation: the numbers that a model is judged by, each with its definition.

Always in fp32 with noise and dropout off, weight 1 and the unmodified KL. The noise of a sentence is a function of the
seed and of its place in the corpus, so the same seed gives the same numbers however sentences are put into batches.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.batch import END, Batch
from seqvae.decoding import evaluating, seeded
from seqvae.divergences import kl
from seqvae.errors import ConfigError, CorpusError, TrainingError
from seqvae.metrics import (
    LogMeanExp,
    active_units,
    bits_per_byte,
    gaussian,
    keyed_normal,
    mutual_information,
    perplexity,
)
from seqvae.vae import SequenceVAE

# Each sentence of a split once: their places in the corpus, and their batch.
Places = Sequence[int] | Tensor | np.ndarray
Indexed = Iterable[tuple[Places, Batch]]

BUDGET = 4096  # steps (rows * T) that one call of the decoder carries
DRAWS = 4_000_000  # numbers (B * S * D) of latent noise held at once
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
        "-log p(x), nats per sentence, importance weighted over `samples` draws: an upper bound below -elbo"
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


@dataclass(frozen=True)
class Bound:
    """The true bound (weight 1, raw KL) as sums, so that the parts of several processes can be added.

    >>> Bound(2, 10, 40.0, 6.0) + Bound(1, 5, 20.0, 3.0)
    Bound(sentences=3, tokens=15, reconstruction=60.0, kl=9.0)
    """

    sentences: int = 0
    tokens: int = 0
    reconstruction: float = 0.0
    kl: float = 0.0

    def __add__(self, other: "Bound") -> "Bound":
        return Bound.of(self.tensor() + other.tensor())

    def tensor(self) -> Tensor:
        """(4,) float64 on the CPU, to be summed over processes and read back by `Bound.of`."""
        return torch.tensor([self.sentences, self.tokens, self.reconstruction, self.kl], dtype=torch.float64)

    @classmethod
    def of(cls, sums: Tensor) -> "Bound":
        """Read back what `tensor` wrote."""
        sentences, tokens, reconstruction, divergence = sums.tolist()
        return cls(round(sentences), round(tokens), reconstruction, divergence)

    @property
    def nll(self) -> float:
        """-ELBO, nats per sentence; raises a `TrainingError` if it is not finite."""
        value = (self.reconstruction + self.kl) / max(self.sentences, 1)
        if not math.isfinite(value):
            raise TrainingError(
                f"the bound is not finite: reconstruction {self.reconstruction}, KL {self.kl} nats in all; "
                "the model has diverged or its weights are damaged"
            )
        return value


@dataclass(frozen=True)
class Measured:
    """Per sentence, N rows in the order of the corpus.

    Attributes:
        index: (N,) int64, the place in the corpus.
        tokens: (N,) int64, how many targets were scored.
        ended: (N,) bool, whether an end of sentence was among them.
        reconstruction: (N,) float64, -log p(x|z), nats, mean over the draws.
        kl: (N,) float64, nats.
        nll: (N,) float64, -log p(x) by importance weighting, nats.
        first: (N,) float64, -log p(x|z) of the first draw.
        z: (N, D), the first draw.
        mean: (N, D), the posterior mean.
    """

    index: Tensor
    tokens: Tensor
    ended: Tensor
    reconstruction: Tensor
    kl: Tensor
    nll: Tensor
    first: Tensor
    z: Tensor
    mean: Tensor

    @classmethod
    def join(cls, parts: Sequence["Measured"]) -> "Measured":
        """All parts as one, in the order of the corpus."""
        order = torch.cat([part.index for part in parts]).argsort()
        columns = (torch.cat([getattr(part, column.name) for part in parts]) for column in fields(cls))
        return cls(*(column[order] for column in columns))


def validate(model: SequenceVAE, batches: Indexed, *, seed: int = 0) -> Bound:
    """The bound with one draw of z for each sentence: what validation while training looks at.

    The result is not checked, so that no process leaves the others waiting: `Bound.nll` is, after they were added.
    """
    total = Bound()
    with evaluating(model):
        for index, batch in batches:
            for part in _measure(model, index, batch, 1, seed):
                said, cost = float(part.reconstruction.sum()), float(part.kl.sum())
                total += Bound(len(part.index), int(part.tokens.sum()), said, cost)
    return total


def measure(model: SequenceVAE, batches: Indexed, *, samples: int = 100, seed: int = 0) -> Measured:
    """The bound and the importance-weighted NLL of each sentence.

    -log p(x) <= -[logsumexp_k(log p(x|z_k) + log p(z_k) - log q(z_k|x)) - log K] in expectation, for K draws of
    q(z|x): Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, 2016, equation 8, arXiv:1509.00519.

    Args:
        model: put in evaluation mode while it works, then back.
        batches: each sentence once, with its place in the corpus; read once, in turn.
        samples: K; with 1 the NLL is one draw of -ELBO.
        seed: of the draws.

    Raises:
        CorpusError: if there are no sentences.
        TrainingError: if a result is not finite.
    """
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    with evaluating(model):
        parts = [part for index, batch in batches for part in _measure(model, index, batch, samples, seed)]
    if not parts:
        raise CorpusError("there is no sentence to score")
    table = Measured.join(parts)
    for name in ("reconstruction", "kl", "nll"):
        wrong = (~getattr(table, name).isfinite()).nonzero()
        if len(wrong):
            place, value = int(table.index[wrong[0]]), float(getattr(table, name)[wrong[0]])
            raise TrainingError(
                f"the {name} of sentence {place} is {value}: the model has diverged or its weights are damaged"
            )
    return table


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


def _measure(model: SequenceVAE, index: Places, batch: Batch, samples: int, seed: int) -> Iterator[Measured]:
    """Measure one batch in slices, so that neither the decoder nor the draws outgrow the memory."""
    p = model.prior()
    for keys, part in _slices(model, index, batch, DRAWS // (samples * max(1, model.latent))):
        h = model.encoder(part)
        q = model.posterior(h)
        z = _draw(model, h, q, keys, samples, seed)  # (B, S, D)
        weights, said = LogMeanExp(), []
        for some in z.split(max(1, BUDGET // part.targets.numel()), dim=1):
            points = some.transpose(0, 1)  # (S, B, D)
            cost = (q.log_prob(points) - p.log_prob(points)).double().T  # (B, S)
            said.append(_log_prob(model, part.repeat(some.shape[1]), some.flatten(0, 1)).view(cost.shape))
            weights.add(said[-1] - cost)
        divergence = kl(q, p, z.transpose(0, 1))  # (B,), or (S, B) where it has to be estimated
        reconstruction = -torch.cat(said, dim=1)
        ended = part.targets.gather(1, part.lengths[:, None] - 1)[:, 0] == END
        yield Measured(
            index=keys,
            tokens=part.lengths.cpu(),
            ended=ended.cpu(),
            reconstruction=reconstruction.mean(1).cpu(),
            kl=(divergence.mean(0) if divergence.dim() == 2 else divergence).double().cpu(),
            nll=-weights.value().cpu(),
            first=reconstruction[:, 0].cpu(),
            z=z[:, 0].cpu(),
            mean=q.mean.cpu(),
        )


def _draw(model: SequenceVAE, h: Tensor, q: Distribution, index: Tensor, samples: int, seed: int) -> Tensor:
    """(B, S, D) draws of q, those of a sentence a function of the seed and its index alone."""
    normal = gaussian(q)
    if normal is not None:
        mean, scale = (part[:, None] for part in normal)
        return mean + scale * keyed_normal(seed, index, samples, mean.shape[-1]).to(mean)
    rows = []
    with seeded(0):
        for row, place in zip(h.split(1), index.tolist(), strict=True):
            torch.manual_seed((seed * 1_000_003 + place) % 2**63)
            rows.append(model.posterior(row).sample((samples,))[:, 0])
    return torch.stack(rows)


def _permuted_increase(model: SequenceVAE, kept: Sequence[tuple[Tensor, Batch]], table: Measured, seed: int) -> float:
    """Mean rise of -log p(x|z), nats, when z of the first draw goes to the next sentence of a random round."""
    round_ = torch.randperm(len(table.index), generator=torch.Generator().manual_seed(seed))
    giver = torch.empty_like(round_)
    giver[round_] = round_.roll(1)  # one cycle through all sentences: nobody keeps its own
    rise = 0.0
    for index, batch in kept:
        for keys, part in _slices(model, index, batch, len(batch)):
            place = torch.searchsorted(table.index, keys)
            z = table.z[giver[place]].to(part.lengths.device)
            rise += float((-_log_prob(model, part, z).cpu() - table.first[place]).sum())
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
            states.append(model.encoder(_rows(batch, rows).to(_device(model))))
            places.append(place[rows])
    place, device = torch.cat(places), _device(model)
    q = model.posterior(torch.cat(states))
    return mutual_information(q, table.z[place].to(device), model.prior(), table.kl[place].to(device))


def _log_prob(model: SequenceVAE, batch: Batch, z: Tensor) -> Tensor:
    """(B,) float64, log p(x|z)."""
    return model.log_prob(batch, z).double().sum(1)


def _slices(model: SequenceVAE, index: Places, batch: Batch, most: int) -> Iterator[tuple[Tensor, Batch]]:
    """The batch in pieces of at most `most` rows and `BUDGET` steps, on the device of the model."""
    width = max(1, min(most, BUDGET // batch.targets.shape[1]))
    for keys, rows in zip(
        torch.as_tensor(index).long().split(width), torch.arange(len(batch)).split(width), strict=True
    ):
        yield keys, _rows(batch, rows).to(_device(model))


def _rows(batch: Batch, rows: Tensor) -> Batch:
    return Batch(batch.source[rows], batch.inputs[rows], batch.targets[rows], batch.lengths[rows])


def _device(model: SequenceVAE) -> torch.device:
    return next(model.parameters()).device


def _sum(given: int | Iterable[int]) -> int:
    return int(torch.as_tensor(given).sum())
