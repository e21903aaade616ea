"""The latent space of a set of sentences: the aggregate posterior, and how much the decoder depends on z.

q_agg(z) = 1/N sum_n q(z|x_n) says where the N sentences lie. A table of N x M densities is never held whole.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import normalize

from seqvae.data.batch import Batch
from seqvae.evaluation.likelihood import Indexed, Measured, device_of, draw_prior, log_likelihood, measure, slices
from seqvae.evaluation.metrics import active_units, per_token, standard_error
from seqvae.model.decoding import decode
from seqvae.model.distributions import gaussian
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE

CELLS = 1_000_000  # float64 numbers that one block of a large table may hold: 8 MB


def _tables(q: Distribution, z: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of log q(z_m|x_n), (block, N) float64, each with the first m in it; so that memory stays bounded."""
    normal = gaussian(q)
    if normal is not None:
        m, s = normal[0].double(), normal[1].double()
        # log q(z) = z^2 . (-1/2s^2) + z . (m/s^2) + rest: two products of matrices in place of an (M, N, D) table.
        left = torch.cat([-0.5 / s**2, m / s**2], dim=1).T.contiguous()  # (2D, N)
        rest = -(0.5 * (m / s) ** 2 + s.log() + 0.5 * math.log(2 * math.pi)).sum(1)
    width = q.batch_shape[0] * (1 if normal is not None else z.shape[1])
    step = max(1, CELLS // width)
    for first in range(0, len(z), step):
        block = z[first : first + step]
        if normal is not None:
            block = block.double()
            yield first, torch.addmm(rest, torch.cat([block**2, block], dim=1), left)
        else:
            yield first, q.log_prob(block[:, None]).double()


def aggregate_log_prob(q: Distribution, z: Tensor, *, own: bool = True) -> Tensor:
    """Log density of the aggregate posterior, log q_agg(z) = logsumexp_n log q(z|x_n) - log N.

    Args:
        q: batch (N,), event (D,). Diagonal Gaussians take a fast path by products of matrices.
        z: (M, D).
        own: False leaves component m out of the mixture for z_m (M = N, N at least 2), the rest sharing its weight.

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
    for first, table in _tables(q, z):
        if not own:
            table.diagonal(first)[: len(table)].fill_(-torch.inf)
        total[first : first + len(table)] = table.logsumexp(1)
    return total - math.log(count if own else count - 1)


@dataclass(frozen=True)
class Bracket:
    """Two estimates, the true value between their expectations: look from lower - 2 SE to upper + 2 SE.

    Attributes:
        lower, upper: the ends, nats.
        lower_standard_error, upper_standard_error: of each, over the sentences and their draws.
    """

    lower: float
    upper: float
    lower_standard_error: float
    upper_standard_error: float

    def named(self, name: str) -> dict[str, float]:
        """Its four numbers as scores: `name_lower`, `name_lower_standard_error` and so on."""
        return {f"{name}_{part}": value for part, value in vars(self).items()}


def bracket_information(q: Distribution, z: Tensor, kl: Tensor) -> tuple[Bracket, Bracket]:
    """Bracket the mutual information of sentences and z, and KL(q_agg||p): E KL(q(z|x)||p) = I(x; z) + KL(q_agg||p).

    I is estimated as the mean of log q(z_n|x_n) - log q_agg(z_n), in which p cancels: taking E KL in closed form and
    the rest from draws has the same mean and far more noise. With z_n's own component in the mixture its expectation is
    a lower bound, at most log N; without it, an upper bound. Both are cut at 0 and at E KL.

    Each sentence counts twice, with its draw z_k and with its component of the mixture that all others are held
    against. Its influence on the mean holds both, to first order as in the jackknife:

        log q_k(z_k) - log q_agg(z_k) - I - (sum_n q_k(z_n) / sum_m q_m(z_n) - 1)

    (n and m other than k where the own component is left out). The standard errors are the standard deviations of these
    influences over sqrt(N), those of KL(q_agg||p) of what is left of KL(q(z|x_k)||p) without them.

    Args:
        q: batch (N,), event (D,), the posteriors of the whole set: a small set caps the lower end at log N.
        z: (N, D), one draw from each.
        kl: (N,) KL(q(z|x_n)||p), nats.

    Returns:
        that of the mutual information, and that of KL(q_agg||p), nats.

    Source: Hoffman & Johnson, ELBO surgery, 2016, equation 9; the two mixtures as in Poole et al., On Variational
    Bounds of Mutual Information, 2019, section 2.3, arXiv:1905.06922; influences, Hampel, The Influence Curve and Its
    Role in Robust Estimation, 1974.
    """
    count, kl = len(z), kl.double()
    rate = float(kl.mean())
    if count < 2:
        return Bracket(0.0, 0.0, 0.0, 0.0), Bracket(rate, rate, 0.0, 0.0)
    own = q.log_prob(z).double()
    others, by_all, by_others = _shares(q, z, own)
    low = own - torch.logaddexp(others, own) + math.log(count)
    high = own - others + math.log(count - 1)
    lower = min(max(float(low.mean()), 0.0), math.log(count), max(rate, 0.0))
    upper = min(max(float(high.mean()), lower), max(rate, 0.0))
    low, high = low - by_all, high - by_others  # up to a constant, the influences
    error = standard_error(kl if upper == rate else high)
    return (
        Bracket(lower, upper, standard_error(low), error),
        Bracket(
            rate - upper, rate - lower, standard_error(kl - high) if upper < rate else 0.0, standard_error(kl - low)
        ),
    )


def _shares(q: Distribution, z: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the components say of the draws (N, D), each (N,) float64.

    Returns:
        log sum_m q(z_n|x_m) over m != n, and of each component k its shares, sum_n q(z_n|x_k) / sum_m q(z_n|x_m) over
        all n and m, and the same without n = k and m = n.
    """
    others, shares = torch.empty_like(own), torch.zeros(2, len(own), dtype=own.dtype, device=own.device)
    for first, table in _tables(q, z):
        rows = slice(first, first + len(table))
        table.diagonal(first)[: len(table)].fill_(-torch.inf)
        top = table.amax(1)
        weights = table.sub_(top[:, None]).exp_()
        others[rows] = weights.sum(1).log() + top
        both = torch.stack([torch.logaddexp(others[rows], own[rows]), others[rows]])
        shares += (top - both).exp() @ weights
    return others, shares[0] + (own - torch.logaddexp(others, own)).exp(), shares[1]


def holes(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    """How far draws of the prior lie from all sentences, log p(z) - log q_agg(z); the mean is KL(p || q_agg).

    Args:
        q: batch (N,), event (D,), the posteriors of the sentences; few of them leave holes by their number alone.
        p: batch (), event (D,).
        z: (M, D), draws of p.

    Returns:
        (M,) float64, nats: 0 everywhere if q_agg = p; the mean over many draws is never below 0.

    >>> from torch.distributions import Independent, Normal
    >>> q = Independent(Normal(torch.tensor([[0.0], [0.0]]), torch.ones(2, 1)), 1)
    >>> holes(q, Independent(Normal(torch.zeros(1), torch.ones(1)), 1), torch.tensor([[0.5], [3.0]])).abs().max() < 1e-6
    tensor(True)
    """
    return p.log_prob(z).double() - aggregate_log_prob(q, z)


INFORMATION = 10_000  # sentences that the aggregate posterior is made of, at most
SPREAD = 200  # sentences that the costly scores look at, at most
HOLES = 1_000  # draws of the prior that look for holes

Kept = Sequence[tuple[Tensor, Batch]]  # the sentences of a table, each with its place in the corpus


def aggregate(model: SequenceVAE, kept: Kept, table: Measured, seed: int) -> dict[str, float]:
    """What compares q of all sentences, or of a random `INFORMATION` of them, with each other and with p."""
    if not model.latent:
        return Bracket(0.0, 0.0, 0.0, 0.0).named("mutual_information")
    states, keys = [], []
    for index, batch in among(kept, table.index[shuffled(table, seed)[:INFORMATION]]):
        states.append(model.hidden(batch.to(device_of(model))))
        keys.append(index)
    place = torch.searchsorted(table.index, torch.cat(keys))
    q, p = model.posterior(torch.cat(states)), model.prior()
    divergence = table.kl[place]
    found = bracket_information(q, table.z[place].to(device_of(model)), divergence.to(device_of(model)))
    depths = holes(q, p, draw_prior(p, torch.arange(HOLES), 1, seed)[:, 0])
    return {
        **found[0].named("mutual_information"),
        **found[1].named("marginal_kl"),
        "holes": float(depths.mean()),
        "holes_standard_error": standard_error(depths),
    }


def placed(model: SequenceVAE, table: Measured, seed: int) -> tuple[Tensor, Tensor]:
    """Find what active units are counted by.

    Returns:
        (N, D) the posterior means, on a sphere their directions; and (D,) the variance of z under the prior, that of
        `HOLES` draws where it has no closed form, as with a flow.
    """
    if not model.latent:
        return table.mean, torch.ones(0)
    p = model.prior()
    try:
        variance = p.variance
    except NotImplementedError:
        variance = draw_prior(p, torch.arange(HOLES), 1, seed)[:, 0].var(0)
    means = normalize(table.mean, dim=1) if model.prior.spherical else table.mean
    return means, variance.cpu()


def talk(model: SequenceVAE, kept: Kept, table: Measured, seed: int) -> dict[str, float]:
    """How sure the decoder is of what it says at draws of p, and at draws of q of some sentences.

    With a condition, each sentence's label goes with its draw of q and with one of p.
    """
    if not model.latent:
        return {}
    chosen = spread(len(table.index))
    near = table.z[chosen]
    far = draw_prior(model.prior(), torch.arange(len(near)), 1, seed)[:, 0]
    labels = None if model.condition is None else labels_at(kept, table.index[chosen]).repeat(2).to(far.device)
    said = decode(
        model,
        model.conditioned(torch.cat([far, near.to(far)]), labels),
        max_length=int(table.tokens.max()),
        allow_unknown=True,
        generator=torch.Generator().manual_seed(seed),
    )
    lengths = torch.tensor([len(ids) for ids in said.tokens])
    halves = zip(-said.log_prob.cpu().view(2, -1), lengths.view(2, -1), strict=True)
    (prior, first), (posterior, second) = (per_token(nll, tokens) for nll, tokens in halves)
    return {
        "decoder_entropy_prior": prior,
        "decoder_entropy_posterior": posterior,
        "decoder_entropy_standard_error": (first**2 + second**2) ** 0.5,
    }


def permuted_increase(model: SequenceVAE, kept: Kept, table: Measured, seed: int) -> float:
    """Mean rise of -log p(x|z), nats, when z of the first draw goes to the next sentence of a random round."""
    if not model.latent:
        return 0.0
    round_ = shuffled(table, seed)
    giver = torch.empty_like(round_)
    giver[round_] = round_.roll(1)  # one cycle through all sentences: nobody keeps its own
    rise = 0.0
    for index, batch in kept:
        for places, part in slices(model, index, batch, len(batch)):
            place = torch.searchsorted(table.index, places)
            z = table.z[giver[place]].to(part.lengths.device)
            rise += float((-log_likelihood(model, part, z).cpu() - table.first[place]).sum())
    return rise / len(table.index)


def shuffled(table: Measured, seed: int) -> Tensor:
    """(N,) the rows of a table in a random order, a function of the seed and of the sentences, not of their places."""
    order = table.key.argsort(stable=True)
    return order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))]


def labels_at(kept: Kept, places: Tensor) -> Tensor:
    """The labels of the sentences at some places, which are in ascending order."""
    found = [(index, batch.labels) for index, batch in among(kept, places) if batch.labels is not None]
    order = torch.cat([index for index, _ in found]).argsort()
    return torch.cat([labels.cpu() for _, labels in found])[order]


def spread(count: int, most: int = SPREAD) -> Tensor:
    """At most `most` of `count` places, evenly spread, in order.

    >>> len(spread(201)), spread(3).tolist()
    (200, [0, 1, 2])
    """
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).long()


def among(kept: Kept, chosen: Tensor) -> Iterator[tuple[Tensor, Batch]]:
    """The sentences at the `chosen` places."""
    for index, batch in kept:
        rows = torch.isin(index, chosen)
        if rows.any():
            yield index[rows], batch.select(rows)


@dataclass(frozen=True)
class Vitals:
    """What z knows of some sentences, and what the decoder makes of it.

    Attributes:
        watched: N, how many sentences these were.
        watched_kl: their mean KL, nats.
        mutual_information_lower, mutual_information_upper: ends of I(x; z), nats: at most log N, and at most their KL;
            it lies between two standard errors below the one and two above the other.
        mutual_information_lower_standard_error, mutual_information_upper_standard_error: of each.
        active_units: dimensions that tell sentences apart, as `Scores.active_units`.
        permuted_nll_increase: rise of -log p(x|z) when each sentence gets another one's z, nats per sentence.
    """

    watched: int
    watched_kl: float
    mutual_information_lower: float
    mutual_information_upper: float
    active_units: int
    permuted_nll_increase: float
    mutual_information_lower_standard_error: float = 0.0
    mutual_information_upper_standard_error: float = 0.0


def vitals(model: SequenceVAE, batches: Indexed, *, seed: int = 0) -> Vitals | None:
    """Measure them on two or more sentences, with one draw of z each; None for a model without z.

    Args:
        model: put in evaluation mode while it works, then back.
        batches: each sentence once, with its place in the corpus.
        seed: of the draws and of who gets whose z; the global random state is left alone.
    """
    if not model.latent:
        return None
    kept = [(torch.as_tensor(index).long(), batch) for index, batch in batches]
    table = measure(model, kept, samples=1, seed=seed)
    with evaluating(model):
        found, rise = aggregate(model, kept, table, seed), permuted_increase(model, kept, table, seed)
        count, _ = active_units(*placed(model, table, seed))
    return Vitals(
        watched=len(table.index),
        watched_kl=float(table.kl.mean()),
        active_units=count,
        permuted_nll_increase=rise,
        **{name: value for name, value in found.items() if name.startswith("mutual_information")},
    )
