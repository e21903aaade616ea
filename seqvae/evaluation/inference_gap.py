"""The inference gap: what amortized inference loses against a q(z|x) that is optimized for each sentence.

max_q ELBO(x, q) - ELBO(x, q(z|x)), over Gaussians q, with the decoder fixed.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, CorpusError, TrainingError, check_size
from seqvae.evaluation.likelihood import (
    MAX_NOISE,
    IndexedBatches,
    hash_sentences,
    limit_tokens,
    log_likelihood,
    split_batch,
)
from seqvae.model.distributions import build_diagonal_gaussian, get_gaussian_parameters, kl
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE
from seqvae.rng import keyed_normal

MAX_CHANGE = 0.15  # of the mean in one step, in standard deviations of q, and of the log scale
KL_SAMPLES = 16  # by which each step estimates a KL that has no closed form: without the decoder they cost little


def follow_natural_gradient(
    mean: Tensor, log_scale: Tensor, gradient: Tensor, log_gradient: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """Take a step down the natural gradient of a loss by the mean m and the log scale of q = N(m, s^2).

        m <- m - rate s^2 dloss/dm,     log s <- log s - rate/2 dloss/d(log s),

    neither by more than 0.15 (of s for the mean). The unit of a step is that of q itself, so that one rate suits narrow
    and wide posteriors; a rate of 1 is Newton's step where s is optimal.

    Args:
        mean: (B, D).
        log_scale: (B, D).
        gradient: (B, D), dloss/dm, each row of its own sentence.
        log_gradient: (B, D), dloss/d(log s).
        rate: above 0.

    Returns:
        the next mean and log scale, both (B, D).

    Source: Hoffman et al., Stochastic Variational Inference, 2013, arXiv:1206.7055.
    """
    scale = log_scale.exp()
    mean = mean - scale * (rate * scale * gradient).clamp(-MAX_CHANGE, MAX_CHANGE)
    return mean, log_scale - (rate * log_gradient / 2).clamp(-MAX_CHANGE, MAX_CHANGE)


def inference_gap(
    model: SequenceVAE,
    batches: IndexedBatches,
    *,
    steps: int = 20,
    samples: int = 16,
    learning_rate: float = 0.125,
    seed: int = 0,
) -> Tensor:
    """Measure how much the ELBO of each sentence increases when gradient steps refine the mean and scale of q(z|x).

    gap(x) = ELBO(x, refined q) - ELBO(x, q(z|x)) <= max over Gaussians q of ELBO(x, q) - ELBO(x, q(z|x))

    A large gap indicates an encoder that lags behind its decoder, or was trained with another weight of the KL than the
    1 of the ELBO. Refinement may end at a worse q, as where the KL to a mixture has to be estimated from samples. So a
    second set of samples, shared by both sides, decides: where the refined q is not better by more than a standard
    error, the encoder's is kept and the gap is 0. A third set, again shared, estimates the gap without the noise of
    that choice. The expectation of each number is a lower bound of the true gap, below 0 only as far as the choice
    errs. Average over sentences.

    The steps are those of `follow_natural_gradient`; their rate decays to 0 along half a cosine.

    Args:
        model: set to evaluation mode meanwhile; its parameters and their gradients do not change.
        batches: each sentence once, with its index in the corpus; iterated once.
        steps: of refinement, each with one sample of z; antithetic, every second sample mirrors the one before.
        samples: of z for each sentence, to choose by and as many to compare both ELBOs by; antithetic too.
        learning_rate: of the first step; 1 would be Newton's step where the scale of q is optimal.
        seed: of all samples, which depend on it and on the sentence alone.

    Returns:
        (N,) float64, nats, in the order of the corpus; zeros for a model without a latent.

    Raises:
        NotImplementedError: if q(z|x) is not a diagonal Gaussian.
        CorpusError: if there are no sentences.
        TrainingError: if a result is not finite.

    Source: Cremer, Li & Duvenaud, Inference Suboptimality in Variational Autoencoders, 2018, arXiv:1801.03558 (gap);
    Kim et al., Semi-Amortized Variational Autoencoders, 2018, arXiv:1802.02550 (refinement by gradient steps); He et
    al., Lagging Inference Networks and Posterior Collapse, 2019, arXiv:1901.05534 (the lag).

    >>> from seqvae.training.build import build_model
    >>> from seqvae.config import Config
    >>> model = build_model(Config.from_dict({"model": {"latent": 2, "embedding": 4}}), vocabulary=9)
    >>> tuple(inference_gap(model, [([0, 1], Batch.of([[4, 5, 2], [6, 2]]))], steps=3).shape)
    (2,)
    """
    check_size(steps=steps, samples=samples)
    if not 0 < learning_rate <= 1:
        raise ConfigError(f"learning_rate = {learning_rate}: expected more than 0 and at most 1")
    indices, gaps = [], []
    width = MAX_NOISE // ((steps * (1 + KL_SAMPLES) + 2 * samples) * max(1, model.latent))
    # cuDNN has no backward pass for a recurrent network in evaluation mode.
    with evaluating(model), torch.backends.cudnn.flags(enabled=False):
        for index, batch in batches:
            for rows, part in split_batch(model, index, batch, width):
                indices.append(rows)
                gaps.append(_measure_gap(model, part, steps, samples, learning_rate, seed).cpu())
    if not indices:
        raise CorpusError("there is no sentence to refine")
    index, gap = torch.cat(indices), torch.cat(gaps)
    failed = (~gap.isfinite()).nonzero()
    if len(failed):
        raise TrainingError(
            f"the inference gap of sentence {int(index[failed[0]])} is not finite: "
            "the model has diverged or its weights are damaged"
        )
    return gap[index.argsort()]


def _measure_gap(model: SequenceVAE, batch: Batch, steps: int, samples: int, learning_rate: float, seed: int) -> Tensor:
    """Measure the gap of one batch, (B,) float64, nats."""
    if not model.latent:
        return torch.zeros(len(batch), dtype=torch.float64)
    q, p = model.encode(batch), model.prior()
    normal = get_gaussian_parameters(q)
    if normal is None:
        raise NotImplementedError(f"the inference gap needs diagonal Gaussian posteriors, got {type(q).__name__}")
    counts = [steps, samples, samples, steps * KL_SAMPLES]
    halves = [(count + 1) // 2 for count in counts]
    noise = keyed_normal(seed, hash_sentences(batch).cpu(), sum(halves), model.latent).to(normal[0])
    sets = [_mirror(half, count) for half, count in zip(noise.split(halves, dim=1), counts, strict=True)]
    refining, choosing, comparing, kl_noise = sets
    refined = _refine(model, batch, p, *normal, refining, kl_noise, learning_rate)
    gain = _compute_elbo(model, batch, p, *refined, choosing) - _compute_elbo(model, batch, p, *normal, choosing)
    worse = gain.mean(1) <= gain.std(1, correction=0) / samples**0.5  # (B,); False where the gain is not a number
    gain = _compute_elbo(model, batch, p, *refined, comparing) - _compute_elbo(model, batch, p, *normal, comparing)
    return torch.where(worse, 0.0, gain.mean(1))


def _mirror(half: Tensor, count: int) -> Tensor:
    """Follow each sample (B, S, D) by its mirror image, (B, count, D), so that odd parts of the noise cancel."""
    return torch.stack([half, -half], dim=2).flatten(1, 2)[:, :count]


def _refine(
    model: SequenceVAE,
    batch: Batch,
    p: Distribution,
    mean: Tensor,
    scale: Tensor,
    noise: Tensor,
    kl_noise: Tensor,
    learning_rate: float,
) -> tuple[Tensor, Tensor]:
    """Refine mean and scale (B, D) by one step for each sample of `noise` (B, S, D).

    A KL without a closed form is estimated from `KL_SAMPLES` of `kl_noise` in each step: the gradient of one sample
    would be so noisy that the steps lead away from a good q.
    """
    log_scale, steps = scale.log(), noise.shape[1]
    for step, (one, many) in enumerate(zip(noise.split(1, dim=1), kl_noise.split(KL_SAMPLES, dim=1), strict=True)):
        mean, log_scale = mean.detach().requires_grad_(), log_scale.detach().requires_grad_()
        with torch.enable_grad():
            scale = log_scale.exp()
            log_prob, divergence = _log_likelihoods(model, batch, mean, scale, one), _estimate_kl(p, mean, scale, many)
            loss = divergence.mean(1).sum() - log_prob.sum()
            # Of these two alone: backward() would add to the gradients of the model's parameters.
            gradient, log_gradient = torch.autograd.grad(loss, [mean, log_scale])
        rate = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
        mean, log_scale = follow_natural_gradient(mean, log_scale, gradient, log_gradient, rate)
    return mean.detach(), log_scale.detach().exp()


def _compute_elbo(
    model: SequenceVAE, batch: Batch, p: Distribution, mean: Tensor, scale: Tensor, noise: Tensor
) -> Tensor:
    """Estimate the ELBO of q = N(mean, scale^2) by each sample mean + scale * noise, noise (B, S, D): (B, S), nats."""
    return _log_likelihoods(model, batch, mean, scale, noise) - _estimate_kl(p, mean, scale, noise)


def _log_likelihoods(model: SequenceVAE, batch: Batch, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """Return log p(x|z) of each sample, (B, S) float64, nats."""
    z = mean[:, None] + scale[:, None] * noise  # (B, S, D)
    log_probs = [
        log_likelihood(model, batch.repeat(chunk.shape[1]), chunk.flatten(0, 1)).view(chunk.shape[:2])
        for chunk in z.split(max(1, limit_tokens(model) // batch.targets.numel()), dim=1)
    ]
    return torch.cat(log_probs, dim=1)


def _estimate_kl(p: Distribution, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """Return KL(q||p) in closed form, (B, 1) float64, nats, or else its estimate by each sample, (B, S)."""
    q = build_diagonal_gaussian(mean, scale)
    found = kl(q, p, (mean[:, None] + scale[:, None] * noise).transpose(0, 1)).double()  # (B,) or (S, B)
    return found.T if found.dim() == 2 else found[:, None]
