"""The latent space of a set of sentences: the aggregate posterior, and how much the decoder depends on z.

q_agg(z) = 1/N sum_n q(z|x_n) is where the N sentences lie. A table of N x M densities is never held whole.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import normalize

from seqvae.data.batch import Batch
from seqvae.evaluation.likelihood import (
    IndexedBatches,
    Measurements,
    draw_prior,
    find_device,
    log_likelihood,
    measure,
    split_batch,
)
from seqvae.evaluation.metrics import active_units, per_token, standard_error
from seqvae.model.decoding import decode
from seqvae.model.distributions import get_gaussian_parameters
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE

CELLS = 1_000_000  # float64 numbers that one block of a large table may hold: 8 MB


def _iterate_log_probs(q: Distribution, z: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield log q(z_m|x_n) in blocks (block, N) float64, each with its first m, so that memory stays bounded."""
    normal = get_gaussian_parameters(q)
    if normal is not None:
        m, s = normal[0].double(), normal[1].double()
        # log q(z) = z^2 . (-1/2s^2) + z . (m/s^2) + constant: two products of matrices in place of an (M, N, D) table.
        left = torch.cat([-0.5 / s**2, m / s**2], dim=1).T.contiguous()  # (2D, N)
        constant = -(0.5 * (m / s) ** 2 + s.log() + 0.5 * math.log(2 * math.pi)).sum(1)
    width = q.batch_shape[0] * (1 if normal is not None else z.shape[1])
    step = max(1, CELLS // width)
    for first in range(0, len(z), step):
        block = z[first : first + step]
        if normal is not None:
            block = block.double()
            yield first, torch.addmm(constant, torch.cat([block**2, block], dim=1), left)
        else:
            yield first, q.log_prob(block[:, None]).double()


def aggregate_log_prob(q: Distribution, z: Tensor, *, own: bool = True) -> Tensor:
    """Return the log density of the aggregate posterior, log q_agg(z) = logsumexp_n log q(z|x_n) - log N.

    Args:
        q: batch (N,), event (D,). Diagonal Gaussians take a fast path by products of matrices.
        z: (M, D).
        own: False leaves component m out of the mixture for z_m (M = N, N at least 2), and weights the others equally.

    Returns:
        (M,) float64, nats.

    >>> from torch.distributions import Independent, Normal
    >>> q = Independent(Normal(torch.tensor([[0.0], [9.0]]), torch.ones(2, 1)), 1)
    >>> aggregate_log_prob(q, torch.zeros(1, 1)).exp()  # half of the standard Gaussian's 0.3989
    tensor([0.1995], dtype=torch.float64)
    """
    count = q.batch_shape[0]
    if not own and (count != len(z) or count < 2):
        raise ValueError(f"leaving out each point's own component needs N = M >= 2, got N = {count}, M = {len(z)}")
    total = torch.empty(len(z), dtype=torch.float64, device=z.device)
    for first, table in _iterate_log_probs(q, z):
        if not own:
            table.diagonal(first)[: len(table)].fill_(-torch.inf)
        total[first : first + len(table)] = table.logsumexp(1)
    return total - math.log(count if own else count - 1)


@dataclass(frozen=True)
class Bounds:
    """Two estimates, the true value between their expectations: an interval is lower - 2 SE to upper + 2 SE.

    Attributes:
        lower, upper: the two estimates, nats.
        lower_standard_error, upper_standard_error: of each, over the sentences and their samples.
    """

    lower: float
    upper: float
    lower_standard_error: float
    upper_standard_error: float

    def to_scores(self, name: str) -> dict[str, float]:
        """Return the four numbers as scores: `name_lower`, `name_lower_standard_error` and so on."""
        return {f"{name}_{part}": value for part, value in vars(self).items()}


def bound_mutual_information(q: Distribution, z: Tensor, kl: Tensor) -> tuple[Bounds, Bounds]:
    """Bound the mutual information of sentences and z, and KL(q_agg||p): E KL(q(z|x)||p) = I(x; z) + KL(q_agg||p).

    I is estimated as the mean of log q(z_n|x_n) - log q_agg(z_n), in which p cancels: taking E KL in closed form and
    the rest from samples has the same mean and far more noise. With z_n's own component in the mixture its expectation
    is a lower bound, at most log N; without it, an upper bound. Both are clamped to 0 and E KL.

    Each sentence counts twice, with its sample z_k and with its component of the mixture that all others are compared
    with. Its influence on the mean holds both, to first order as in the jackknife:

        log q_k(z_k) - log q_agg(z_k) - I - (sum_n q_k(z_n) / sum_m q_m(z_n) - 1)

    (n and m other than k where the own component is left out). The standard errors are the standard deviations of these
    influences over sqrt(N), those of KL(q_agg||p) of what is left of KL(q(z|x_k)||p) without them.

    Args:
        q: batch (N,), event (D,), the posteriors of the whole set: a small set caps the lower end at log N.
        z: (N, D), one sample of each.
        kl: (N,) KL(q(z|x_n)||p), nats.

    Returns:
        the bounds of the mutual information, and those of KL(q_agg||p), nats.

    Source: Hoffman & Johnson, ELBO surgery, 2016, equation 9; the two mixtures as in Poole et al., On Variational
    Bounds of Mutual Information, 2019, section 2.3, arXiv:1905.06922; influences, Hampel, The Influence Curve and Its
    Role in Robust Estimation, 1974.
    """
    count, kl = len(z), kl.double()
    rate = float(kl.mean())
    if count < 2:
        return Bounds(0.0, 0.0, 0.0, 0.0), Bounds(rate, rate, 0.0, 0.0)
    own = q.log_prob(z).double()
    others, by_all, by_others = _sum_responsibilities(q, z, own)
    low = own - torch.logaddexp(others, own) + math.log(count)
    high = own - others + math.log(count - 1)
    lower = min(max(float(low.mean()), 0.0), math.log(count), max(rate, 0.0))
    upper = min(max(float(high.mean()), lower), max(rate, 0.0))
    low, high = low - by_all, high - by_others  # up to a constant, the influences
    error = standard_error(kl if upper == rate else high)
    return (
        Bounds(lower, upper, standard_error(low), error),
        Bounds(
            rate - upper, rate - lower, standard_error(kl - high) if upper < rate else 0.0, standard_error(kl - low)
        ),
    )


def _sum_responsibilities(q: Distribution, z: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum the responsibilities of the components for the samples (N, D), each result (N,) float64.

    Returns:
        log sum_m q(z_n|x_m) over m != n, and for each component k sum_n q(z_n|x_k) / sum_m q(z_n|x_m) over all n and m,
        and the same without n = k and m = n.
    """
    others, sums = torch.empty_like(own), torch.zeros(2, len(own), dtype=own.dtype, device=own.device)
    for first, table in _iterate_log_probs(q, z):
        rows = slice(first, first + len(table))
        table.diagonal(first)[: len(table)].fill_(-torch.inf)
        top = table.amax(1)
        weights = table.sub_(top[:, None]).exp_()
        others[rows] = weights.sum(1).log() + top
        both = torch.stack([torch.logaddexp(others[rows], own[rows]), others[rows]])
        sums += (top - both).exp() @ weights
    return others, sums[0] + (own - torch.logaddexp(others, own)).exp(), sums[1]


def measure_holes(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    """Return how far samples of the prior lie from all sentences, log p(z) - log q_agg(z); the mean is KL(p || q_agg).

    Regions of high density of p and low density of q_agg are the holes of the prior (Rezende & Viola, Taming VAEs,
    2018, arXiv:1810.00597, section 4).

    Args:
        q: batch (N,), event (D,), the posteriors of the sentences; few of them leave holes because they are few.
        p: batch (), event (D,).
        z: (M, D), samples of p.

    Returns:
        (M,) float64, nats: 0 everywhere if q_agg = p; the mean over many samples is never below 0.

    >>> from torch.distributions import Independent, Normal
    >>> q = Independent(Normal(torch.tensor([[0.0], [0.0]]), torch.ones(2, 1)), 1)
    >>> p = Independent(Normal(torch.zeros(1), torch.ones(1)), 1)
    >>> measure_holes(q, p, torch.tensor([[0.5], [3.0]])).abs().max() < 1e-6
    tensor(True)
    """
    return p.log_prob(z).double() - aggregate_log_prob(q, z)


MAX_COMPONENTS = 10_000  # sentences of the aggregate posterior
MAX_COSTLY = 200  # sentences that the costly scores are computed on
PRIOR_SAMPLES = 1_000  # that holes are measured with

BatchList = Sequence[tuple[Tensor, Batch]]  # the sentences of a table, each with its index in the corpus


def score_aggregate(model: SequenceVAE, batches: BatchList, table: Measurements, seed: int) -> dict[str, float]:
    """Compare q of all sentences, or of a random `MAX_COMPONENTS` of them, with each other and with p."""
    if not model.latent:
        return Bounds(0.0, 0.0, 0.0, 0.0).to_scores("mutual_information")
    features, indices = [], []
    for index, batch in select_sentences(batches, table.index[shuffle_rows(table, seed)[:MAX_COMPONENTS]]):
        features.append(model.encode_features(batch.to(find_device(model))))
        indices.append(index)
    rows = torch.searchsorted(table.index, torch.cat(indices))
    q, p = model.posterior(torch.cat(features)), model.prior()
    z, divergence = (column[rows].to(find_device(model)) for column in (table.z, table.kl))
    information, marginal_kl = bound_mutual_information(q, z, divergence)
    holes = measure_holes(q, p, draw_prior(p, torch.arange(PRIOR_SAMPLES), 1, seed)[:, 0])
    return {
        **information.to_scores("mutual_information"),
        **marginal_kl.to_scores("marginal_kl"),
        "holes": float(holes.mean()),
        "holes_standard_error": standard_error(holes),
    }


def find_means_and_variance(model: SequenceVAE, table: Measurements, seed: int) -> tuple[Tensor, Tensor]:
    """Find the arguments of `active_units`.

    Returns:
        (N, D) the posterior means, on a sphere their directions; and (D,) the variance of z under the prior, that of
        `PRIOR_SAMPLES` samples where it has no closed form, as with a flow.
    """
    if not model.latent:
        return table.mean, torch.ones(0)
    p = model.prior()
    try:
        variance = p.variance
    except NotImplementedError:
        variance = draw_prior(p, torch.arange(PRIOR_SAMPLES), 1, seed)[:, 0].var(0)
    means = normalize(table.mean, dim=1) if model.prior.spherical else table.mean
    return means, variance.cpu()


def measure_decoder_entropy(model: SequenceVAE, batches: BatchList, table: Measurements, seed: int) -> dict[str, float]:
    """Measure the decoder's entropy per token at samples of p, and at samples of q of some sentences.

    With a condition, each sentence's label goes with its sample of q and with one of p.
    """
    if not model.latent:
        return {}
    chosen = space_evenly(len(table.index))
    posterior_z = table.z[chosen]
    prior_z = draw_prior(model.prior(), torch.arange(len(chosen)), 1, seed)[:, 0]
    labels = None
    if model.condition is not None:
        labels = find_labels(batches, table.index[chosen]).repeat(2).to(prior_z.device)
    generated = decode(
        model,
        model.append_condition(torch.cat([prior_z, posterior_z.to(prior_z)]), labels),
        max_length=int(table.tokens.max()),
        allow_unknown=True,
        generator=torch.Generator().manual_seed(seed),
    )
    lengths = torch.tensor([len(ids) for ids in generated.tokens])
    halves = zip(-generated.log_prob.cpu().view(2, -1), lengths.view(2, -1), strict=True)
    (prior, prior_error), (posterior, posterior_error) = (per_token(nll, tokens) for nll, tokens in halves)
    return {
        "decoder_entropy_prior": prior,
        "decoder_entropy_posterior": posterior,
        "decoder_entropy_standard_error": (prior_error**2 + posterior_error**2) ** 0.5,
    }


def measure_permuted_increase(model: SequenceVAE, batches: BatchList, table: Measurements, seed: int) -> float:
    """Return the mean increase of -log p(x|z), nats, when each sentence gets another one's z, in a random cycle."""
    if not model.latent:
        return 0.0
    cycle = shuffle_rows(table, seed)
    source = torch.empty_like(cycle)
    source[cycle] = cycle.roll(1)  # one cycle through all sentences: none keeps its own z
    increase = 0.0
    for index, batch in batches:
        for indices, part in split_batch(model, index, batch, len(batch)):
            rows = torch.searchsorted(table.index, indices)
            z = table.z[source[rows]].to(part.lengths.device)
            increase += float((-log_likelihood(model, part, z).cpu() - table.first[rows]).sum())
    return increase / len(table.index)


def shuffle_rows(table: Measurements, seed: int) -> Tensor:
    """Return the rows of a table in a random order, (N,), which depends on seed and sentences, not on their index."""
    order = table.key.argsort(stable=True)
    return order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))]


def find_labels(batches: BatchList, chosen: Tensor) -> Tensor:
    """Return the labels of the sentences with the `chosen` indices, which are in ascending order."""
    found = [(index, batch.labels) for index, batch in select_sentences(batches, chosen) if batch.labels is not None]
    order = torch.cat([index for index, _ in found]).argsort()
    return torch.cat([labels.cpu() for _, labels in found])[order]


def space_evenly(count: int, most: int = MAX_COSTLY) -> Tensor:
    """Return at most `most` of `count` indices, evenly spaced, in order.

    >>> len(space_evenly(201)), space_evenly(3).tolist()
    (200, [0, 1, 2])
    """
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).long()


def select_sentences(batches: BatchList, chosen: Tensor) -> Iterator[tuple[Tensor, Batch]]:
    """Yield the sentences with the `chosen` indices."""
    for index, batch in batches:
        rows = torch.isin(index, chosen)
        if rows.any():
            yield index[rows], batch.select(rows)


@dataclass(frozen=True)
class LatentUsage:
    """Cheap indicators of whether the model uses z: the information of q(z|x), and what the decoder does with it.

    Attributes:
        usage_sentences: N, the number of sentences.
        usage_kl: their mean KL, nats.
        mutual_information_lower, mutual_information_upper: bounds of I(x; z), nats: at most log N, and at most their
            KL; the interval is from two standard errors below the one to two above the other.
        mutual_information_lower_standard_error, mutual_information_upper_standard_error: of each.
        active_units: dimensions whose posterior mean varies, as `Scores.active_units`.
        permuted_nll_increase: increase of -log p(x|z) when each sentence gets another one's z, nats per sentence.
    """

    usage_sentences: int
    usage_kl: float
    mutual_information_lower: float
    mutual_information_upper: float
    active_units: int
    permuted_nll_increase: float
    mutual_information_lower_standard_error: float = 0.0
    mutual_information_upper_standard_error: float = 0.0


def measure_latent_usage(model: SequenceVAE, batches: IndexedBatches, *, seed: int = 0) -> LatentUsage | None:
    """Measure how z is used on two or more sentences, with one sample of z each; None for a model without z.

    Args:
        model: set to evaluation mode meanwhile.
        batches: each sentence once, with its index in the corpus.
        seed: of the samples and of the permutation of z; the global random state is not changed.
    """
    if not model.latent:
        return None
    stored = [(torch.as_tensor(index).long(), batch) for index, batch in batches]
    table = measure(model, stored, samples=1, seed=seed)
    with evaluating(model):
        scores = score_aggregate(model, stored, table, seed)
        increase = measure_permuted_increase(model, stored, table, seed)
        count, _ = active_units(*find_means_and_variance(model, table, seed))
    return LatentUsage(
        usage_sentences=len(table.index),
        usage_kl=float(table.kl.mean()),
        active_units=count,
        permuted_nll_increase=increase,
        **{name: value for name, value in scores.items() if name.startswith("mutual_information")},
    )
