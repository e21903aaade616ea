"""The inference gap: what the encoder loses by giving q(z|x) in one go, instead of fitting it to each sentence.

max_q ELBO(x, q) - ELBO(x, q(z|x)), over Gaussians q, the decoder as it is.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, CorpusError, TrainingError, check_size
from seqvae.evaluation.likelihood import BUDGET, DRAWS, Indexed, log_likelihood, sentence_keys, slices
from seqvae.model.distributions import gaussian, kl
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE
from seqvae.rng import keyed_normal

REACH = 0.15  # the most that one step moves the mean, in standard deviations of q, and the log scale
PRIOR_DRAWS = 16  # by which each step estimates a KL that has no closed form: without the decoder they cost little


def inference_gap(
    model: SequenceVAE,
    batches: Indexed,
    *,
    steps: int = 20,
    draws: int = 16,
    learning_rate: float = 0.125,
    seed: int = 0,
) -> Tensor:
    """How much the ELBO of each sentence rises when gradient steps refine the mean and scale of its own q(z|x).

    gap(x) = ELBO(x, refined q) - ELBO(x, q(z|x)) <= max over Gaussians q of ELBO(x, q) - ELBO(x, q(z|x))

    A large gap is the sign of an encoder that lags behind its decoder, or was trained for another weight of the KL than
    the 1 of the ELBO. Refinement may end at a worse q, as where the KL to a mixture has to be estimated from draws. So
    a second set of draws, shared by both sides, decides: where the refined q is not better by more than a standard
    error, the encoder's is kept and the gap is 0. A third set, again shared, says what the gap is, without the noise
    that the choice was made by. The expectation of each number is a lower bound of the true gap, below 0 only as far as
    the choice errs. Average over sentences.

    The steps follow the natural gradient, s^2 dELBO/dm and 1/2 dELBO/d(log s): its unit is that of q itself, so that
    one learning rate serves narrow and wide posteriors. It falls to 0 along half a cosine.

    Args:
        model: in evaluation mode while it works, then back; its parameters and their gradients stay as they are.
        batches: each sentence once, with its place in the corpus; read once, in turn.
        steps: of refinement, each with one draw, every second draw the mirror image of the one before.
        draws: of z for each sentence, to choose by and as many to compare both ELBOs by; mirrored likewise.
        learning_rate: of the first step; 1 would be Newton's step where the scale of q fits already.
        seed: of all draws, which depend on it and on the sentence alone.

    Returns:
        (N,) float64, nats, in the order of the corpus; zeros for a model without a latent.

    Raises:
        NotImplementedError: if q(z|x) is not a diagonal Gaussian.
        CorpusError: if there are no sentences.
        TrainingError: if a result is not finite.

    Source: Cremer, Li & Duvenaud, Inference Suboptimality in Variational Autoencoders, 2018, arXiv:1801.03558 (gap);
    Kim et al., Semi-Amortized Variational Autoencoders, 2018, arXiv:1802.02550 (refinement by gradient steps); He et
    al., Lagging Inference Networks and Posterior Collapse, 2019, arXiv:1901.05534 (the lag); Hoffman et al., Stochastic
    Variational Inference, 2013, arXiv:1206.7055 (natural gradients).

    >>> from seqvae.training.build import build_model
    >>> from seqvae.config import Config
    >>> model = build_model(Config.from_dict({"model": {"latent": 2, "embedding": 4}}), vocabulary=9)
    >>> tuple(inference_gap(model, [([0, 1], Batch.of([[4, 5, 2], [6, 2]]))], steps=3).shape)
    (2,)
    """
    check_size(steps=steps, draws=draws)
    if not 0 < learning_rate <= 1:
        raise ConfigError(f"learning_rate = {learning_rate}: expected more than 0 and at most 1")
    places, gaps = [], []
    width = DRAWS // ((steps * (1 + PRIOR_DRAWS) + 2 * draws) * max(1, model.latent))
    # cuDNN has no backward pass for a recurrent network in evaluation mode.
    with evaluating(model), torch.backends.cudnn.flags(enabled=False):
        for index, batch in batches:
            for some, part in slices(model, index, batch, width):
                places.append(some)
                gaps.append(_gap(model, part, steps, draws, learning_rate, seed).cpu())
    if not places:
        raise CorpusError("there is no sentence to refine")
    place, gap = torch.cat(places), torch.cat(gaps)
    wrong = (~gap.isfinite()).nonzero()
    if len(wrong):
        raise TrainingError(
            f"the inference gap of sentence {int(place[wrong[0]])} is not finite: "
            "the model has diverged or its weights are damaged"
        )
    return gap[place.argsort()]


def _gap(model: SequenceVAE, batch: Batch, steps: int, draws: int, learning_rate: float, seed: int) -> Tensor:
    """(B,) float64, nats."""
    if not model.latent:
        return torch.zeros(len(batch), dtype=torch.float64)
    q, p = model.encode(batch), model.prior()
    normal = gaussian(q)
    if normal is None:
        raise NotImplementedError(f"the inference gap needs diagonal Gaussian posteriors, got {type(q).__name__}")
    counts = [steps, draws, draws, steps * PRIOR_DRAWS]
    halves = [(count + 1) // 2 for count in counts]
    noise = keyed_normal(seed, sentence_keys(batch).cpu(), sum(halves), model.latent).to(normal[0])
    sets = [_mirrored(half, count) for half, count in zip(noise.split(halves, dim=1), counts, strict=True)]
    fitting, choosing, judging, of_prior = sets
    refined = _refine(model, batch, p, *normal, fitting, of_prior, learning_rate)
    rise = _elbo(model, batch, p, *refined, choosing) - _elbo(model, batch, p, *normal, choosing)  # (B, draws)
    kept = rise.mean(1) <= rise.std(1, correction=0) / draws**0.5  # the encoder's q; not so where it is no number
    rise = _elbo(model, batch, p, *refined, judging) - _elbo(model, batch, p, *normal, judging)
    return torch.where(kept, 0.0, rise.mean(1))


def _mirrored(half: Tensor, count: int) -> Tensor:
    """(B, S, D) -> (B, count, D): each draw followed by its mirror image, so that odd parts of the noise cancel."""
    return torch.stack([half, -half], dim=2).flatten(1, 2)[:, :count]


def _refine(
    model: SequenceVAE,
    batch: Batch,
    p: Distribution,
    mean: Tensor,
    scale: Tensor,
    noise: Tensor,
    of_prior: Tensor,
    learning_rate: float,
) -> tuple[Tensor, Tensor]:
    """Mean and scale (B, D) after one step of the natural gradient for each draw in `noise` (B, S, D).

    A KL without a closed form is estimated from `PRIOR_DRAWS` of `of_prior` in each step: by one draw its gradient
    would be so noisy that the steps lead away from a q that is good already.
    """
    log_scale, steps = scale.log(), noise.shape[1]
    for step, (draw, more) in enumerate(zip(noise.split(1, dim=1), of_prior.split(PRIOR_DRAWS, dim=1), strict=True)):
        mean, log_scale = mean.detach().requires_grad_(), log_scale.detach().requires_grad_()
        with torch.enable_grad():
            scale = log_scale.exp()
            said, cost = _likelihood(model, batch, mean, scale, draw), _divergence(p, mean, scale, more)
            elbo = said.sum() - cost.mean(1).sum()
            # Of these two alone: backward() would add to the gradients of the model's parameters.
            slope, log_slope = torch.autograd.grad(elbo, [mean, log_scale])
        rate, scale = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2, log_scale.exp()
        mean = mean + scale * (rate * scale * slope).clamp(-REACH, REACH)
        log_scale = log_scale + (rate * log_slope / 2).clamp(-REACH, REACH)
    return mean.detach(), log_scale.detach().exp()


def _elbo(model: SequenceVAE, batch: Batch, p: Distribution, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """(B, S) float64, nats: the ELBO of q = N(mean, scale^2) by each draw mean + scale * noise, noise (B, S, D)."""
    return _likelihood(model, batch, mean, scale, noise) - _divergence(p, mean, scale, noise)


def _likelihood(model: SequenceVAE, batch: Batch, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """(B, S) float64, nats: log p(x|z) of each draw."""
    z = mean[:, None] + scale[:, None] * noise  # (B, S, D)
    said = [
        log_likelihood(model, batch.repeat(some.shape[1]), some.flatten(0, 1)).view(some.shape[:2])
        for some in z.split(max(1, BUDGET // batch.targets.numel()), dim=1)
    ]
    return torch.cat(said, dim=1)


def _divergence(p: Distribution, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """(B, 1) float64, nats: KL(q||p) in closed form; where there is none, (B, S) its estimate by each draw."""
    q = Independent(Normal(mean, scale, validate_args=False), 1, validate_args=False)
    found = kl(q, p, (mean[:, None] + scale[:, None] * noise).transpose(0, 1)).double()  # (B,) or (S, B)
    return found.T if found.dim() == 2 else found[:, None]
