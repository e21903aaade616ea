"""Imputation: sentences of which some words are given and the others are searched, in z and in words by turns.

p(x missing | x given) has no closed form, but each half of the search is easy: given z, the decoder's likeliest words
are found by a beam search along a pattern; given words, the encoder proposes other z near by. So

1. many z are drawn from the prior, and some around q(z | the given words); those under which the given words are
   likeliest begin a chain each (importance sampling, with the prior as proposal);
2. each z is decoded along the pattern;
3. z is drawn around q(z|x) with a widened spread, decoded again, and the chain moves where the sentence becomes
   likelier by log p(x) / length ** 0.7. Repeat. In the end the best of all sentences seen are scored once more, with
   importance weighting, and ranked.

Source: Rezende, Mohamed & Wierstra, Stochastic Backpropagation and Approximate Inference in Deep Generative Models,
2014, https://arxiv.org/abs/1401.4082, appendix F (missing data by turns of z and x); Mattei & Frellsen, Leveraging the
Exact Likelihood of Deep Latent Variable Models, 2018, https://arxiv.org/abs/1802.04826 (a move is accepted by its
likelihood; here the chains climb instead of sampling, since what is wanted are good sentences); Wu et al., Google's
Neural Machine Translation System, 2016, https://arxiv.org/abs/1609.08144, section 7 (the length penalty).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seqvae.data.batch import END, UNKNOWN, Batch
from seqvae.evaluation.likelihood import measure
from seqvae.latent.prior_temperature import has_temperature, sample_at_temperature
from seqvae.model.distributions import get_gaussian_parameters
from seqvae.model.modes import evaluating
from seqvae.model.patterns import Pattern, Rules
from seqvae.model.search import search
from seqvae.model.vae import SequenceVAE
from seqvae.rng import Stream, shift_seed

STARTS, NEAR = 1000, 200  # z drawn from the prior, and around q(z | the given words)
CHAINS, ROUNDS, PROPOSALS = 24, 4, 4  # of the search; proposals of each chain in each round
PRIOR_TEMPERATURE, SPREAD = 0.3, 1.5  # of the starts, and of the proposals around q(z|x)
CANDIDATES, FINE = 20, 50  # sentences that compete in the end, of all that were found; samples of their log p(x)
LENGTH_PENALTY = 0.7  # per token (1), long sentences of cheap words win; by log p (0), short ones
WORK = 15_000  # most ids that a round decodes, all hypotheses of all proposals together
PART = 256  # rows of one call of the model


@dataclass(frozen=True)
class Imputed:
    """A whole sentence: its ids, EOS the last, and log p(x) in nats, importance weighted."""

    tokens: tuple[int, ...]
    log_prob: float

    @property
    def score(self) -> float:
        """Return what sentences are ranked by, log p(x) / length ** 0.7."""
        return self.log_prob / len(self.tokens) ** LENGTH_PENALTY


@dataclass(frozen=True)
class Task:
    """What is to be completed.

    Attributes:
        given: the ids as they stand in the sentence, None for each blank; EOS is the last where the end is given.
        pattern: the form of the whole sentence.
        rules: what must and must not be in it.
        max_length: most ids, EOS included.
        label: (1,) int64, for a model conditioned on labels.
    """

    given: Sequence[int | None]
    pattern: Pattern
    rules: Rules
    max_length: int
    label: Tensor | None = None

    def make_batch(self, sequences: Sequence[Sequence[int]]) -> Batch:
        """Make a batch of sentences of this label."""
        batch = Batch.of([list(ids) for ids in sequences])
        return batch if self.label is None else replace(batch, labels=self.label.expand(len(sequences)))


def impute(model: SequenceVAE, task: Task, n: int, *, seed: int | None = None, beam: int = 2) -> list[Imputed]:
    """Find n sentences that follow the task's pattern, the best first by log p(x) / length ** 0.7.

    Args:
        model: of tokens, with a latent space.
        task: what is given.
        n: number of sentences; fewer are returned where fewer are found.
        seed: of z; None takes new random numbers each time.
        beam: width of the search for words.
    """
    with Stream(shift_seed(seed)):
        z = choose_starts(model, task, max(CHAINS, 2 * n))
        scores: dict[tuple[int, ...], float] = {}
        chains = _decode(model, task, z, beam)
        if len(set(chains)) < n:  # as where the decoder ignores z: its next best sentences, then
            chains += _decode(model, task, z[:1], 2 * n, n)
        proposals = count_proposals(task, CHAINS, beam)
        _score(model, task, chains, scores)
        chains = sorted(set(chains), key=lambda one: -scores[one])[: max(CHAINS, n)]
        for _ in range(ROUNDS if chains else 0):
            near = _decode(model, task, draw_around(model, task.make_batch(chains), proposals, SPREAD), beam)
            _score(model, task, near, scores)
            groups = [[one, *near[i * proposals : (i + 1) * proposals]] for i, one in enumerate(chains)]
            chains = [max(group, key=scores.__getitem__) for group in groups]
    best = sorted(scores, key=lambda one: -scores[one])[: max(CANDIDATES, 2 * n)]
    found = [Imputed(*pair) for pair in zip(best, estimate(model, task, best, FINE), strict=True)]
    return sorted(found, key=lambda one: -one.score)[:n]


def count_proposals(task: Task, chains: int, beam: int) -> int:
    """Return the number of proposals of each chain: fewer where blanks of several words make each of them costly."""
    ids = chains * beam * task.pattern.spread * task.max_length
    return min(PROPOSALS, max(1, WORK // ids))


def choose_starts(model: SequenceVAE, task: Task, count: int) -> Tensor:
    """Draw z from the prior and around q(z | given words), and keep the `count` under which these are likeliest."""
    with torch.no_grad():
        p = model.prior()
        drawn = sample_at_temperature(p, STARTS, PRIOR_TEMPERATURE if has_temperature(p) else 1.0)
    sketch = [UNKNOWN if id is None else id for id in task.given]
    ended = sketch[-1] == END  # else it is a beginning, and z near that of a whole sentence of it would end there
    z = torch.cat([drawn, draw_around(model, task.make_batch([sketch]), NEAR, SPREAD)]) if ended else drawn
    counted = torch.tensor([id is not None for id in task.given], device=z.device)
    weights = []
    with evaluating(model):
        for part in z.split(PART):
            log_prob = model.log_prob(task.make_batch([sketch] * len(part)).to(z.device), part)
            weights.append(log_prob.masked_fill(~counted, 0.0).sum(1))
    return z[torch.cat(weights).topk(min(count, len(z))).indices]


def draw_around(model: SequenceVAE, batch: Batch, number: int, spread: float) -> Tensor:
    """Draw z around q(z|x) of each sentence, its standard deviations multiplied by `spread`: (B * number, D).

    The draws of a sentence are consecutive. A posterior that is no Gaussian (vMF, a flow) is sampled as it is.
    """
    device = next(model.parameters()).device
    with evaluating(model):
        q = model.encode(batch.to(device))
        gaussian = get_gaussian_parameters(q)
        if gaussian is None:
            return q.sample(torch.Size([number])).transpose(0, 1).flatten(0, 1)
        mean, scale = (part[:, None] for part in gaussian)
        return (mean + spread * scale * torch.randn_like(mean.expand(-1, number, -1))).flatten(0, 1)


def estimate(model: SequenceVAE, task: Task, sequences: Sequence[Sequence[int]], samples: int) -> list[float]:
    """Estimate log p(x) of each sequence, nats, importance weighted."""
    if not sequences:
        return []
    parts = [range(i, min(i + PART, len(sequences))) for i in range(0, len(sequences), PART)]
    batches = ((part, task.make_batch([sequences[i] for i in part])) for part in parts)
    return (-measure(model, batches, samples=samples, seed=0).nll).tolist()


def _decode(model: SequenceVAE, task: Task, z: Tensor, beam: int, n_best: int = 1) -> list[tuple[int, ...]]:
    """Decode each z along the pattern; where nothing fits the pattern, no z has a sentence."""
    labels = None if task.label is None else task.label.expand(len(z))
    with torch.no_grad():
        z = model.append_condition(z, labels)
    options = {"width": beam, "n_best": n_best, "max_length": task.max_length}
    found = search(model, z, task.pattern, rules=task.rules, **options)
    return [one.tokens for hypotheses in found for one in hypotheses]


def _score(
    model: SequenceVAE, task: Task, sequences: list[tuple[int, ...]], scores: dict[tuple[int, ...], float]
) -> None:
    """Add a rough log p(x) / length ** 0.7 of the sequences that have no score yet.

    It is Laplace's approximation with the encoder's Gaussian, log p(x|z) + log p(z) - log q(z|x) at the mode of q:
    without random numbers, and one pass instead of many.
    """
    new = [one for one in dict.fromkeys(sequences) if one not in scores]
    if not new:
        return
    with evaluating(model):
        batch = task.make_batch(new).to(next(model.parameters()).device)
        q = model.encode(batch)
        values = model.log_prob(batch, q.mode).sum(1) + model.prior().log_prob(q.mode) - q.log_prob(q.mode)
    scores |= {one: value / len(one) ** LENGTH_PENALTY for one, value in zip(new, values.tolist(), strict=True)}
