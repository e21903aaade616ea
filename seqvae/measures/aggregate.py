"""The aggregate posterior: q_agg(z) = 1/N sum_n q(z|x_n), where the N sentences lie in the latent space.

Pure functions from distributions and points to nats, in float64. A table of N x M densities is never held whole.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.measures.metrics import gaussian

CELLS = 1_000_000  # float64 numbers that one block of a large table may hold: 8 MB


def _aggregate_sum(q: Distribution, z: Tensor, own: bool) -> Tensor:
    """(M,) float64, log sum_n q(z_m|x_n) over all n, or over n != m; z in blocks so that memory stays bounded."""
    normal = gaussian(q)
    if normal is not None:
        m, s = normal[0].double(), normal[1].double()
        # log q(z) = z^2 . (-1/2s^2) + z . (m/s^2) + rest: two products of matrices in place of an (M, N, D) table.
        left = torch.cat([-0.5 / s**2, m / s**2], dim=1).T.contiguous()  # (2D, N)
        rest = -(0.5 * (m / s) ** 2 + s.log() + 0.5 * math.log(2 * math.pi)).sum(1)
    width = q.batch_shape[0] * (1 if normal is not None else z.shape[1])
    step = max(1, CELLS // width)
    total = torch.empty(len(z), dtype=torch.float64, device=z.device)
    for first in range(0, len(z), step):
        block = z[first : first + step]
        if normal is not None:
            block = block.double()
            table = torch.addmm(rest, torch.cat([block**2, block], dim=1), left)  # (block, N)
        else:
            table = q.log_prob(block[:, None]).double()
        if not own:
            table.diagonal(first)[: len(block)].fill_(-torch.inf)
        total[first : first + step] = table.logsumexp(1)
    return total


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
    return _aggregate_sum(q, z, own) - math.log(count if own else count - 1)


def mutual_information(q: Distribution, z: Tensor, kl: Tensor) -> tuple[float, float]:
    """Bracket the mutual information of sentences and z, I(x; z) = E KL(q(z|x)||p) - KL(q_agg||p).

    Estimated as the mean of log q(z_n|x_n) - log q_agg(z_n), in which p cancels: taking E KL in closed form and the
    rest from draws has the same mean and far more noise. With z_n's own component in the mixture the result is, up to
    Monte Carlo noise, a lower bound, at most log N; without it, an upper bound. Both are cut at 0 and at E KL.

    Args:
        q: batch (N,), event (D,), the posteriors of the whole set: a small set caps the result at log N.
        z: (N, D), one draw from each.
        kl: (N,) KL(q(z|x_n)||p), nats.

    Returns:
        (lower, upper), nats.

    Source: Hoffman & Johnson, ELBO surgery, 2016, equation 9; the two mixtures as in Poole et al., On Variational
    Bounds of Mutual Information, 2019, section 2.3, arXiv:1905.06922.
    """
    count = len(z)
    if count < 2:
        return 0.0, 0.0
    own = q.log_prob(z).double()
    others = _aggregate_sum(q, z, own=False)
    everyone = torch.logaddexp(others, own) - math.log(count)
    lower = float((own - everyone).mean())
    upper = float((own - others).mean()) + math.log(count - 1)
    rate = max(float(kl.double().mean()), 0.0)
    lower = min(max(lower, 0.0), math.log(count), rate)
    return lower, min(max(upper, lower), rate)


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
