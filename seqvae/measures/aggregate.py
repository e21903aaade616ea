"""The aggregate posterior: q_agg(z) = 1/N sum_n q(z|x_n), where the N sentences lie in the latent space.

Pure functions from distributions and points to nats, in float64. A table of N x M densities is never held whole.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.measures.metrics import gaussian, standard_error

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
