"""The inference gap: what the encoder loses by giving q(z|x) in one go, instead of fitting it to each sentence.

max_q ELBO(x, q) - ELBO(x, q(z|x)), over Gaussians q, the decoder as it is.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from seqvae.batch import Batch
from seqvae.decoding import evaluating
from seqvae.divergences import kl
from seqvae.errors import ConfigError, CorpusError, TrainingError, check_size
from seqvae.measures.bounds import BUDGET, DRAWS, Indexed, log_likelihood, slices
from seqvae.measures.metrics import gaussian, keyed_normal
from seqvae.vae import SequenceVAE

REACH = 0.15  # the most that one step moves the mean, in standard deviations of q, and the log scale


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
    the 1 of the ELBO. Both sides share their draws, of which the refinement has seen none, so the expectation of each
    number is a lower bound of the true gap. A sentence that came out worse therefore keeps its negative number: the
    better of both would count noise as gap. Average over sentences.

    The steps follow the natural gradient, s^2 dELBO/dm and 1/2 dELBO/d(log s): its unit is that of q itself, so that
    one learning rate serves narrow and wide posteriors. It falls to 0 along half a cosine.

    Args:
        model: in evaluation mode while it works, then back; its parameters and their gradients stay as they are.
        batches: each sentence once, with its place in the corpus; read once, in turn.
        steps: of refinement, each with one draw, every second draw the mirror image of the one before.
        draws: of z for each sentence, to compare both ELBOs by; mirrored likewise.
        learning_rate: of the first step; 1 would be Newton's step where the scale of q fits already.
        seed: of all draws, which depend on it and on the place of the sentence alone.

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

    >>> from seqvae.build import build_model
    >>> from seqvae.config import Config
    >>> model = build_model(Config.from_dict({"model": {"latent": 2, "embedding": 4}}), vocabulary=9)
    >>> tuple(inference_gap(model, [([0, 1], Batch.of([[4, 5, 2], [6, 2]]))], steps=3).shape)
    (2,)
    """
    check_size(steps=steps, draws=draws)
    if not 0 < learning_rate <= 1:
        raise ConfigError(f"learning_rate = {learning_rate}: expected more than 0 and at most 1")
    places, gaps = [], []
    rows = DRAWS // ((steps + draws) * max(1, model.latent))
    # cuDNN has no backward pass for a recurrent network in evaluation mode.
    with evaluating(model), torch.backends.cudnn.flags(enabled=False):
        for index, batch in batches:
            for keys, part in slices(model, index, batch, rows):
                places.append(keys)
                gaps.append(_gap(model, keys, part, steps, draws, learning_rate, seed).cpu())
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


def _gap(
    model: SequenceVAE, keys: Tensor, batch: Batch, steps: int, draws: int, learning_rate: float, seed: int
) -> Tensor:
    """(B,) float64, nats."""
    if not model.latent:
        return torch.zeros(len(batch), dtype=torch.float64)
    q = model.encode(batch)
    normal = gaussian(q)
    if normal is None:
        raise NotImplementedError(f"the inference gap needs diagonal Gaussian posteriors, got {type(q).__name__}")
    half = keyed_normal(seed, keys, (steps + 1) // 2 + (draws + 1) // 2, model.latent).to(normal[0])
    fitting, judging = half.tensor_split([(steps + 1) // 2], dim=1)
    refined = _refine(model, batch, *normal, _mirrored(fitting, steps), learning_rate)
    noise = _mirrored(judging, draws)
    return _elbo(model, batch, *refined, noise) - _elbo(model, batch, *normal, noise)


def _mirrored(half: Tensor, count: int) -> Tensor:
    """(B, S, D) -> (B, count, D): each draw followed by its mirror image, so that odd parts of the noise cancel."""
    return torch.stack([half, -half], dim=2).flatten(1, 2)[:, :count]


def _refine(
    model: SequenceVAE, batch: Batch, mean: Tensor, scale: Tensor, noise: Tensor, learning_rate: float
) -> tuple[Tensor, Tensor]:
    """Mean and scale (B, D) after one step of the natural gradient for each draw in `noise` (B, S, D)."""
    log_scale, steps = scale.log(), noise.shape[1]
    for step, draw in enumerate(noise.split(1, dim=1)):
        mean, log_scale = mean.detach().requires_grad_(), log_scale.detach().requires_grad_()
        with torch.enable_grad():
            elbo = _elbo(model, batch, mean, log_scale.exp(), draw).sum()
            # Of these two alone: backward() would add to the gradients of the model's parameters.
            slope, log_slope = torch.autograd.grad(elbo, [mean, log_scale])
        rate, scale = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2, log_scale.exp()
        mean = mean + scale * (rate * scale * slope).clamp(-REACH, REACH)
        log_scale = log_scale + (rate * log_slope / 2).clamp(-REACH, REACH)
    return mean, log_scale.exp()


def _elbo(model: SequenceVAE, batch: Batch, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """(B,) float64, nats: the ELBO of q = N(mean, scale^2) by the draws mean + scale * noise, noise (B, S, D)."""
    q = Independent(Normal(mean, scale, validate_args=False), 1, validate_args=False)
    z = mean[:, None] + scale[:, None] * noise  # (B, S, D)
    said = [
        log_likelihood(model, batch.repeat(some.shape[1]), some.flatten(0, 1)).view(some.shape[:2])
        for some in z.split(max(1, BUDGET // batch.targets.numel()), dim=1)
    ]
    divergence = kl(q, model.prior(), z.transpose(0, 1)).double()  # (B,), or (S, B) where it has to be estimated
    return torch.cat(said, dim=1).mean(1) - (divergence.mean(0) if divergence.dim() == 2 else divergence)
