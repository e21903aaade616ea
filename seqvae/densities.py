"""Densities fitted to points: a mixture of Gaussians by EM, and a flow by gradients."""

import copy
import math

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from seqvae.flows import FlowDistribution, build_flow
from seqvae.rng import seeded

ROUNDS = 300  # of EM, at most
TOLERANCE = 1e-4  # nats per point: EM ends when a round gains less
EPOCHS = 100  # of a flow, at most
WAIT = 8  # epochs without a better density of the points that are watched, after which a flow has learnt enough
BATCH = 256  # points of an update of a flow


def mixture(z: Tensor, components: int, *, seed: int = 0) -> MixtureSameFamily:
    """A mixture of Gaussians with full covariances by expectation and maximization, sum_k w_k N(z; m_k, C_k).

    With the shares r_nk = w_k N(z_n; m_k, C_k) / sum_j w_j N(z_n; m_j, C_j) and N_k = sum_n r_nk, a round sets

        w_k = N_k / N,    m_k = sum_n r_nk z_n / N_k,
        C_k = (sum_n r_nk (z_n - m_k)(z_n - m_k)' + (D + 2) P) / (N_k + D + 2),

    as if D + 2 more points with the covariance P = C K^(-2/D) lay around m_k, C being that of all points: so none
    shrinks to a point. With K = 1 it ends at the mean and the covariance of the points. The centres that it starts at
    are chosen by k-means++.

    Args:
        z: (N, D) float64.
        components: K.
        seed: of the centres.

    Returns:
        batch (), event (D,), float64.

    Source: Dempster, Laird & Rubin, Maximum likelihood from incomplete data via the EM algorithm, 1977; the start,
    Arthur & Vassilvitskii, k-means++: the advantages of careful seeding, 2007; the scale of P as in Fraley & Raftery,
    Bayesian regularization for normal mixture estimation and model-based clustering, 2007.

    >>> points = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]], dtype=torch.float64)
    >>> round(float(mixture(points, 1).variance), 4)
    5.0
    """
    count, size = z.shape
    whole = (z - z.mean(0)).T @ (z - z.mean(0)) / count
    ridge = torch.eye(size, dtype=z.dtype) * (1e-9 * float(whole.diagonal().mean()) + 1e-12)
    strength = size + 2
    extra = strength * components ** (-2 / size) * whole
    shares = torch.nn.functional.one_hot(_nearest(z, components, seed), components).double()
    before = -math.inf
    for _ in range(ROUNDS):
        counts = shares.sum(0).clamp_min(1e-12)  # (K,)
        means = shares.T @ z / counts[:, None]
        factors = []
        for share, total, mean in zip(shares.T, counts, means, strict=True):
            scatter = (share[:, None] * (z - mean)).T @ (z - mean)
            factors.append(torch.linalg.cholesky((scatter + extra) / (total + strength) + ridge))
        table = _joint(z, counts / count, means, factors)
        log_prob = table.logsumexp(1)
        shares = (table - log_prob[:, None]).exp()
        after = float(log_prob.mean())
        if after - before < TOLERANCE:
            break
        before = after
    normals = MultivariateNormal(means, scale_tril=torch.stack(factors), validate_args=False)
    return MixtureSameFamily(Categorical(counts / counts.sum(), validate_args=False), normals, validate_args=False)


def flow_density(z: Tensor, watched: Tensor, *, seed: int = 0) -> FlowDistribution:
    """A neural spline flow fitted by maximum likelihood, stopped where other points are likeliest.

    It works on y = L^-1 (z - m), m and L L' mean and covariance of the points, and starts as the identity: at its start
    the density is the Gaussian N(m, L L'), and with early stopping it never ends at one that fits `watched` less well.
    AdamW, weight decay 0.01, learning rate 0.002, batches of 256; it ends after 8 epochs without a gain, or 100.

    Args:
        z: (N, D) float64, the points to fit.
        watched: (M, D) float64, which say when to stop and are not fitted to.
        seed: of the weights and of the order of the points.

    Returns:
        batch (), event (D,), float64.

    Raises:
        ConfigError: if zuko is not installed.

    Source: of the flow, see `seqvae.flows.build_flow`.
    """
    mean, size = z.mean(0), z.shape[1]
    whole = (z - mean).T @ (z - mean) / len(z)
    ridge = torch.eye(size, dtype=z.dtype) * (1e-6 * float(whole.diagonal().mean()) + 1e-12)
    factor = torch.linalg.cholesky(whole + ridge)
    plain, held = (torch.linalg.solve_triangular(factor, (x - mean).T, upper=False).T.float() for x in (z, watched))
    with seeded(seed) as stream:
        flow = build_flow(size, family="nsf", transforms=2, hidden=64)
    best, kept, waited = -math.inf, copy.deepcopy(flow.state_dict()), 0
    optimizer = torch.optim.AdamW(flow.parameters(), lr=2e-3, weight_decay=0.01)
    for _ in range(EPOCHS):
        with torch.no_grad():
            worth = float(flow().log_prob(held).mean())
        if worth > best:
            best, kept, waited = worth, copy.deepcopy(flow.state_dict()), 0
        elif (waited := waited + 1) >= WAIT:
            break
        with torch.enable_grad():
            for rows in torch.randperm(len(plain), generator=stream.generator()).split(BATCH):
                optimizer.zero_grad()
                (-flow().log_prob(plain[rows]).mean()).backward()
                torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
                optimizer.step()
    flow.load_state_dict(kept)
    return FlowDistribution(flow.double().requires_grad_(False), mean, factor)


def _joint(z: Tensor, weights: Tensor, means: Tensor, factors: list[Tensor]) -> Tensor:
    """(N, K): log w_k N(z_n; m_k, L_k L_k'), a component at a time so that no (N, K, D) table is held."""
    columns = []
    for weight, mean, factor in zip(weights, means, factors, strict=True):
        scaled = torch.linalg.solve_triangular(factor, (z - mean).T, upper=False)  # (D, N)
        columns.append(weight.log() - factor.diagonal().log().sum() - 0.5 * scaled.square().sum(0))
    return torch.stack(columns, dim=1) - 0.5 * z.shape[1] * math.log(2 * math.pi)


def _nearest(z: Tensor, components: int, seed: int) -> Tensor:
    """(N,) which centre each point is nearest to: each is a point, drawn by its squared distance to those before it."""
    z = (z - z.mean(0)) / z.std(0, correction=0).clamp_min(1e-12)
    generator = torch.Generator().manual_seed(seed)
    nearest = torch.zeros(len(z), dtype=torch.long)
    distance = torch.full((len(z),), torch.inf, dtype=z.dtype)
    chosen = int(torch.randint(len(z), (1,), generator=generator))
    for k in range(components):
        if k:
            chosen = int(torch.multinomial(distance.clamp_min(1e-12), 1, generator=generator))
        to = (z - z[chosen]).square().sum(1)
        nearest[to < distance] = k
        distance = torch.minimum(distance, to)
    return nearest
