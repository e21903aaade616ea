"""A mixture fitted to the aggregate posterior after training, that takes the place of the model's prior.

The prior learnt in training has few components and has to follow an encoder that moves. One of a thousand fitted to
q_agg(z) = 1/N sum_n q(z|x_n), when the encoder is fixed, has its components nearer to sentences. Encoder and decoder
stay as they are.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqvae.data.batching import iterate_by_length
from seqvae.errors import ConfigError, check_size, check_whole
from seqvae.model.distributions import get_gaussian_parameters
from seqvae.model.modes import evaluating
from seqvae.model.priors import Mixture
from seqvae.model.vae import SequenceVAE
from seqvae.rng import Stream

MAX_POINTS = 40_000  # training sentences that a mixture is fitted to after a training, at most
MIN_POINTS = 20  # ... for each component
VALIDATED = 5_000  # validation sentences that decide whether it is better, at most
ROWS = 4096  # points whose responsibilities are in memory at a time
PRIOR_POINTS = 5.0  # points with the variance of all that each component's variance begins with
MIN_VARIANCE = 1e-3


def refit_prior(model: SequenceVAE, train: Any, valid: Any, *, components: int, seed: int = 0) -> Mixture | None:
    """Fit a mixture to the aggregate posterior of a trained model; None if its own prior is better, or q not Gaussian.

    Better is the prior with the larger E_q[log p(z)] of the validation split, by one sample of q for each: the KL of
    held-out sentences is then smaller, and the bound and -log p(x) with it.

    Args:
        model: trained; it is not changed.
        train: the training split, of which 40,000 items are used, evenly spread.
        valid: the validation split.
        components: K at most; fewer where there are fewer than 20 points for each.
        seed: of the fit and of the samples.
    """
    points, held_out = (_encode(model, split) for split in (train.at_most(MAX_POINTS), valid.at_most(VALIDATED)))
    if points is None or held_out is None or len(points[0]) < MIN_POINTS:
        return None
    prior = refit_mixture(*points, components=min(components, len(points[0]) // MIN_POINTS), seed=seed)
    with torch.no_grad(), Stream(seed):
        z = held_out[0] + held_out[1] * torch.randn_like(held_out[0])
        before, after = (
            torch.cat([p.log_prob(rows) for rows in z.split(ROWS // 8)]).mean().item() for p in (model.prior(), prior())
        )
    return prior if after > before else None


def _encode(model: SequenceVAE, split: Any) -> tuple[Tensor, Tensor] | None:
    """Return means and standard deviations (N, D) of q(z|x) of all items; None if q is no diagonal Gaussian."""
    found = []
    with evaluating(model):
        for _, batch in iterate_by_length(split, batch_size=256):
            parameters = get_gaussian_parameters(model.posterior(model.encode_features(batch)))
            if parameters is None:
                return None
            found.append(parameters)
    if not found:
        return None
    means, scales = (torch.cat(parts) for parts in zip(*found, strict=True))
    return means, scales


def refit_mixture(
    means: Tensor,
    scales: Tensor,
    *,
    components: int,
    iterations: int = 6,
    seed: int = 0,
    observe: Callable[[int, float], None] | None = None,
) -> Mixture:
    """Fit p(z) = sum_k w_k N(m_k, diag(s_k^2)) to Gaussians q_n = N(mu_n, diag(sigma_n^2)) by stochastic EM.

    It maximizes 1/N sum_n E_q_n[log p(z)]. In each iteration the responsibilities r_nk are those of one new sample z_n
    of each q_n; with N_k = sum_n r_nk and V the variance of q_agg,

        m_k = sum_n r_nk mu_n / N_k,
        s_k^2 = (sum_n r_nk (mu_n^2 + sigma_n^2) - N_k m_k^2 + a V) / (N_k + a),       a = 5.

    Args:
        means: (N, D).
        scales: (N, D).
        components: K, at most N; they start at K of the means.
        iterations: passes over all points.
        seed: of the first means and of the samples.
        observe: is called after each iteration with its number and the mean of log p of the samples before it, nats.

    Returns:
        the prior, in the precision of the means.

    Raises:
        ConfigError: for fewer points than components.

    Source: Ghosh et al., From Variational to Deterministic Autoencoders, 2020, https://arxiv.org/abs/1903.12436
    (ex-post density estimation); EM with samples of the latent variables: Celeux & Diebolt, The SEM algorithm, 1985.
    """
    check_size(components=components)
    check_whole(1, iterations=iterations)
    if len(means) < components:
        raise ConfigError(f"components = {components}: expected at most the number of sentences, {len(means):,}")
    with torch.no_grad(), Stream(seed):
        variance = means.var(0, unbiased=False) + scales.square().mean(0)
        mean = means[torch.randperm(len(means))[:components]].clone()
        scale = variance.sqrt().expand_as(mean).clone()
        logits = means.new_full((components,), -math.log(components))
        for iteration in range(iterations):
            log_prob, count, first, second = _collect(means, scales, logits, mean, scale)
            mean = first / count.clamp(min=1e-6)[:, None]
            rest = second - count[:, None] * mean.square() + PRIOR_POINTS * variance
            scale = (rest / (count + PRIOR_POINTS)[:, None]).clamp(min=MIN_VARIANCE).sqrt()
            logits = ((count + 1 / components) / (count.sum() + 1)).log()
            if observe is not None:
                observe(iteration + 1, log_prob)
    prior = Mixture(latent=means.shape[1], components=components).to(means)
    values = {"logits": logits, "means": mean, "log_variances": 2 * scale.log()}
    prior.load_state_dict(values)
    return prior


def _collect(
    means: Tensor, scales: Tensor, logits: Tensor, mean: Tensor, scale: Tensor
) -> tuple[float, Tensor, Tensor, Tensor]:
    """Sum over all points: the mean of log p, and N_k (K,), sum r mu (K, D), sum r (mu^2 + sigma^2) (K, D)."""
    total, count = 0.0, torch.zeros_like(logits)
    first, second = torch.zeros_like(mean), torch.zeros_like(mean)
    constant = logits - scale.log().sum(1) - (mean / scale).square().sum(1) / 2
    constant = constant - mean.shape[1] / 2 * math.log(2 * math.pi)
    for mu, sigma in zip(means.split(ROWS), scales.split(ROWS), strict=True):
        z = mu + sigma * torch.randn_like(mu)
        joint = z @ (mean / scale.square()).T - z.square() @ (scale.square().reciprocal() / 2).T + constant
        log_prob = joint.logsumexp(1)
        r = (joint - log_prob[:, None]).exp()
        total += float(log_prob.sum())
        count += r.sum(0)
        first += r.T @ mu
        second += r.T @ (mu.square() + sigma.square())
    return total / len(means), count, first, second
