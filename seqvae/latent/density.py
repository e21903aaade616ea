"""A density of the aggregate posterior, fitted after training, to sample from in place of the prior.

Where q_agg(z) = 1/N sum_n q(z|x_n) does not fill the prior, samples of the prior fall into holes, where the decoder
was never trained. A density fitted to samples of q_agg has fewer, and tells of each sample how near sentences are.

Source: Dai & Wipf, Diagnosing and Enhancing VAE Models, 2019, arXiv:1903.05789 (a second VAE is fitted to samples of
q_agg); Ghosh et al., From Variational to Deterministic Autoencoders, 2020, arXiv:1903.12436 (ex-post density
estimation, with the full-covariance mixture of Gaussians that is used here by default).
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, TrainingError, check_number, check_whole, choose
from seqvae.evaluation.latent_space import aggregate_log_prob
from seqvae.evaluation.metrics import standard_error
from seqvae.model.distributions import FlowDistribution, build_flow
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE
from seqvae.rng import seeded, shift_seed

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

    Source: of the flow, see `seqvae.model.distributions.build_flow`.
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


COMPONENTS = 10  # of a mixture, at most, if no number is given; then also ...
ENOUGH = 10  # ... so many sentences for each, at least
POINTS = 10_000  # draws of q that a density is fitted to: several of each sentence if there are fewer sentences
HELD_OUT = 10  # every tenth sentence is not fitted to, but says what the density is worth
WATCHED = 10  # every tenth of the others is not fitted to either, but says when a flow has learnt enough
HOLES = 1_000  # draws that look for holes
WIDTH = 1_000  # points drawn at a time, at least
TRIES = 100  # times that so many are drawn, at most

Density = Literal["gaussian", "mixture", "flow"]


@dataclass(frozen=True)
class Draws:
    """Points to decode, with the confidence in each.

    Attributes:
        z: (n, D) float64.
        log_prob: (n,) float64, log q_agg(z) of the fitted density, nats.
        quantile: (n,) float64, the share of the held-out sentences' draws that are less likely than z.
    """

    z: Tensor
    log_prob: Tensor
    quantile: Tensor


@dataclass(frozen=True)
class Aggregate:
    """A density fitted to q(z|x) of many sentences.

    Attributes:
        density: batch (), event (D,), in float64 on the CPU.
        held_out: (M,) float64, ascending: its log density, nats, at draws of q of sentences that it was not fitted to.
        gain: nats by which these are likelier under it than under the prior, KL(q_agg||p) - KL(q_agg||density): what
            it closes of the holes. Below 0 the prior is the better density.
        gain_standard_error: over the held-out sentences; None if there is only one.
        sentences: how many it was fitted to.
        holes: E_d[log d(z) - log q_agg(z)] of the density d, nats: about 0 if d = q_agg of these sentences and those
            held out, large where draws of d lie far from all of them.
        holes_standard_error: over the draws.
        holes_prior: the same of the prior, E_p[log p(z) - log q_agg(z)]: what there was before.
        holes_prior_standard_error: over the draws.
    """

    density: Distribution
    held_out: Tensor
    gain: float
    gain_standard_error: float | None
    sentences: int
    holes: float = math.nan
    holes_standard_error: float = math.nan
    holes_prior: float = math.nan
    holes_prior_standard_error: float = math.nan

    def sample(self, n: int, *, seed: int | None = None, min_confidence: float = 0.0) -> Draws:
        """`n` draws; with a seed the same ones each time, the global random state untouched.

        Args:
            n: how many.
            seed: of the draws.
            min_confidence: from 0 to 1, a quantile of `held_out`: draws that are less likely are drawn again.

        Raises:
            ConfigError: for a value out of range, or if too few of the draws are so likely.
        """
        check_whole(1, n=n)
        check_confidence(min_confidence)
        floor = float(self.held_out.quantile(min_confidence)) if min_confidence else -math.inf
        width, kept, missing = max(n, WIDTH), [], n
        with seeded(shift_seed(seed)):
            for _ in range(TRIES):
                z = self.density.sample((width,))
                kept.append(z[self.density.log_prob(z) >= floor][:missing])
                missing -= len(kept[-1])
                if not missing:
                    break
        if missing:
            raise ConfigError(
                f"min_confidence {min_confidence}: only {n - missing:,} of {TRIES * width:,} draws are so likely, "
                f"expected {n:,}; write a smaller one"
            )
        z = torch.cat(kept)
        log_prob = self.density.log_prob(z)
        below = torch.searchsorted(self.held_out, log_prob)
        return Draws(z, log_prob, below.double() / len(self.held_out))


def check_confidence(min_confidence: float) -> None:
    """Raise a `ConfigError` unless it is a quantile."""
    check_number(min_confidence=min_confidence)
    if not 0 <= min_confidence <= 1:
        raise ConfigError(f"min_confidence must lie between 0 (any draw) and 1, got {min_confidence}")


def fit_aggregate(
    model: SequenceVAE,
    batches: Iterable[Batch],
    *,
    density: Density = "mixture",
    components: int | None = None,
    seed: int = 0,
) -> Aggregate:
    """Fit a density to draws of q(z|x).

    Args:
        model: with a latent space.
        batches: two sentences or more; every tenth is held out.
        density: `gaussian`, one with the mean and the covariance of the draws; `mixture` of such Gaussians; or `flow`,
            a neural spline flow, for which another tenth says when to stop.
        components: Gaussians in the mixture. None takes 10, or fewer where there are not 10 sentences for each.
        seed: of the draws and of where the fit starts.

    Raises:
        ConfigError: without a latent space or on a sphere, for more components than sentences, or without zuko.
        TrainingError: if a draw is not finite.
    """
    choose("density", density, get_args(Density))
    if components is not None:
        check_whole(1, components=components)
    if components is not None and density != "mixture":
        raise ConfigError(f"components = {components} with density {density}: only a mixture has components")
    if not model.latent:
        raise ConfigError("a model of kind lm has no latent space to fit a density to; train one of kind vae")
    if model.prior.spherical:
        raise ConfigError(
            "a density in space cannot be fitted to points of a sphere; draw from the prior of this model"
        )
    device = next(model.parameters()).device
    stream = seeded(seed)
    with evaluating(model):
        hidden = [model.hidden(batch.to(device)) for batch in batches]
        count = sum(len(h) for h in hidden)
        if count < 2:
            raise ConfigError(f"{count} sentences to fit a density to: expected 2 or more")
        q, p = model.posterior(torch.cat(hidden)), model.prior()
        with stream:
            draws = q.rsample((max(1, POINTS // count),))  # (S, N, D)
        if not draws.isfinite().all():
            raise TrainingError("draws of q(z|x) are not finite: the model has diverged or its weights are damaged")
        held = torch.arange(count) % HELD_OUT == min(HELD_OUT, count) - 1
        prior = p.log_prob(draws[:, held.to(device)]).double().cpu()  # (S, held)
        draws = draws.double().cpu()
        found = _fitted(draws[:, ~held], density, components, seed)
        likely = found.log_prob(draws[:, held])  # (S, held)
        gains = (likely - prior).mean(0)
        with stream:
            before, after = (_holes(q, d) for d in (p, found))
    return Aggregate(
        density=found,
        held_out=likely.flatten().sort().values,
        gain=float(gains.mean()),
        gain_standard_error=standard_error(gains) if len(gains) > 1 else None,
        sentences=count - int(held.sum()),
        holes=float(after.mean()),
        holes_standard_error=standard_error(after),
        holes_prior=float(before.mean()),
        holes_prior_standard_error=standard_error(before),
    )


def _fitted(draws: Tensor, density: Density, components: int | None, seed: int) -> Distribution:
    """The density of draws (S, N, D) of N sentences."""
    count = draws.shape[1]
    if density == "flow":
        watched = torch.arange(count) % WATCHED == min(WATCHED, count) - 1
        rest = draws[:, ~watched] if count > 1 else draws
        return flow_density(rest.flatten(0, 1), draws[:, watched].flatten(0, 1), seed=seed)
    if components is None:
        components = 1 if density == "gaussian" else min(COMPONENTS, max(1, count // ENOUGH))
    if not 1 <= components <= count:
        raise ConfigError(f"components = {components}: expected 1 to {count}, the number of sentences fitted to")
    return mixture(draws.flatten(0, 1), components, seed=seed)


def _holes(q: Distribution, density: Distribution) -> Tensor:
    """(HOLES,) float64 nats: log d(z) - log q_agg(z) of draws of the density d."""
    z = density.sample((HOLES,))
    return density.log_prob(z).double().cpu() - aggregate_log_prob(q, z.to(q.mean)).cpu()
