"""Metrics: pure functions from numbers to numbers, in nats and in float64.

N sentences with posteriors q(z|x_n), D latent dimensions. Nothing here knows a model, a text or a device.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

CELLS = 1_000_000  # float64 numbers that one block of a large table may hold: 8 MB


def perplexity(nll: float, words: int) -> float:
    """Perplexity per word, exp(NLL / words).

    Args:
        nll: nats, summed over the sentences.
        words: words plus one end for each sentence whose end was scored; never the start or padding.

    >>> round(perplexity(101.04 * 3761, round(21.917 * 3761)), 1)  # an LSTM language model on PTB
    100.5
    """
    exponent = nll / words
    return math.exp(exponent) if exponent < 709 else math.inf


def bits_per_byte(nll: float, bytes: int) -> float:
    """Bits needed for each byte of the text, NLL / (bytes * log 2).

    Args:
        nll: nats, summed over the sentences.
        bytes: UTF-8 bytes of the scored text, with one (its line feed) for each sentence whose end was scored.

    >>> bits_per_byte(8 * math.log(2), 8)
    1.0
    """
    return nll / (bytes * math.log(2))


def active_units(means: Tensor, threshold: float = 0.01) -> tuple[int, Tensor]:
    """Count the dimensions that tell sentences apart: Var_x(E_q[z_d]) > threshold.

    Args:
        means: (N, D) posterior means of all sentences.
        threshold: 0.01 in the source. Means that are normalized over a batch pass it by construction.

    Returns:
        the count, and the (D,) variances (with N - 1), largest first.

    Source: Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, 2016, section 5.2, arXiv:1509.00519.

    >>> active_units(torch.tensor([[0.0, 3.0, 1.0], [0.1, -3.0, 1.0]]))
    (1, tensor([1.8000e+01, 5.0000e-03, 0.0000e+00], dtype=torch.float64))
    """
    variances = means.double().var(dim=0, correction=int(len(means) > 1)).sort(descending=True).values
    return int((variances > threshold).sum()), variances


def gaussian(q: Distribution) -> tuple[Tensor, Tensor] | None:
    """Location and scale, each (N, D), if q is a batch of diagonal Gaussians over vectors; else None."""
    if isinstance(q, Independent) and q.reinterpreted_batch_ndims == 1 and isinstance(q.base_dist, Normal):
        return q.base_dist.loc, q.base_dist.scale
    return None


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


class LogMeanExp:
    """A running log mean exp over draws that arrive in chunks, without overflow.

    >>> mean = LogMeanExp()
    >>> mean.add(torch.tensor([[1000.0]]))
    >>> mean.add(torch.tensor([[1000.0, 1000.0]]))
    >>> round(mean.value().item(), 6)
    1000.0
    """

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Take in a chunk (B, S) of S more draws for each of B rows."""
        chunk = values.double().logsumexp(1)
        self.total = chunk if self.total is None else torch.logaddexp(self.total, chunk)
        self.count += values.shape[1]

    def value(self) -> Tensor:
        """(B,) float64: log of the mean over all draws so far."""
        if self.total is None:
            raise ValueError("no draws were added")
        return self.total - math.log(self.count)


def keyed_normal(seed: int, rows: Tensor, draws: int, dimensions: int) -> Tensor:
    """Standard Gaussian numbers that are a pure function of (seed, row, draw, dimension).

    So the noise of a sentence does not depend on its batch, nor on how many draws are asked for. A counter hashed by
    the finalizer of SplitMix64 (Steele, Lea & Flood, Fast splittable pseudorandom number generators, 2014), mapped
    through the inverse of the Gaussian distribution function.

    Args:
        seed: any integer.
        rows: (B,) int64 keys, such as places in the corpus.
        draws: S.
        dimensions: D.

    Returns:
        (B, S, D) float64.
    """
    key = _mix(torch.tensor(seed % 2**63, device=rows.device))
    key = _mix(key + rows[:, None, None])
    key = _mix(key + torch.arange(draws, device=rows.device)[:, None])
    key = _mix(key + torch.arange(dimensions, device=rows.device))
    uniform = (_shift(key, 11).double() + 0.5) * 2.0**-53
    return torch.special.ndtri(uniform)


def _mix(key: Tensor) -> Tensor:
    """SplitMix64's output for a counter; int64 products wrap around as unsigned ones would."""
    key = (key + 1) * -7046029254386353131  # 0x9E3779B97F4A7C15
    key = (key ^ _shift(key, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    key = (key ^ _shift(key, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return key ^ _shift(key, 31)


def _shift(key: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros: int64's own shift would copy the sign."""
    return (key >> bits) & ((1 << (64 - bits)) - 1)
